// The reader's choices, kept in this browser: the time zone, the theme, sound and notifications.

const KEY = "tradeproxy preferences";

/** Return the kept choices by name. They may have been written by another version. */
export function readChoices(storage) {
  try {
    return JSON.parse(storage.getItem(KEY)) ?? {};
  } catch {
    return {}; // the browser allows no storage, or something else wrote there
  }
}

export class Preferences {
  /** Calls `changed(name)` after a choice; `storage` is localStorage. */
  constructor(form, storage, changed) {
    this.form = form;
    this.storage = storage;
    const kept = readChoices(storage);
    for (const field of form.elements) {
      const value = kept[field.name];
      if (field.type === "checkbox") field.checked = value === true;
      else if ([...(field.options ?? [])].some((option) => option.value === value)) {
        field.value = value;
      }
    }
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", ({ target }) => {
      this.#keep();
      changed(target.name);
    });
  }

  /** Return a choice: a text, or true or false. */
  get(name) {
    const field = this.form.elements[name];
    return field.type === "checkbox" ? field.checked : field.value;
  }

  /** Turn a switch off, as if the reader had done it. */
  turnOff(name) {
    if (!this.get(name)) return;
    this.form.elements[name].checked = false;
    this.#keep();
  }

  #keep() {
    const names = Array.from(this.form.elements, (field) => field.name).filter(Boolean);
    const choices = Object.fromEntries(names.map((name) => [name, this.get(name)]));
    try {
      this.storage.setItem(KEY, JSON.stringify(choices));
    } catch {
      // The choice lasts as long as the page.
    }
  }
}
