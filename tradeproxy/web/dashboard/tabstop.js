// The keyboard in the table: the rows are one tab stop, and keys move it.

const ROW = "tr:not(.details)"; // what is below an event is part of its row

export class TabStop {
  /** `toggle(row, wanted)` shows or hides a row's details; without `wanted` it does the other. */
  constructor(rows, toggle) {
    this.rows = rows;
    this.toggle = toggle;
    rows.addEventListener("focusin", ({ target }) => this.#move(target.closest(ROW)));
    rows.addEventListener("keydown", (event) => this.#press(event));
  }

  /** Choose the tab stop after rows came or went: the newest row, unless a row has the focus. */
  renew() {
    if (!this.rows.contains(document.activeElement)) this.#move(this.rows.querySelector(ROW));
  }

  /** Move the focus up if it is on a row that is about to go. */
  leave(row) {
    if (row === document.activeElement) step(row, "previousElementSibling")?.focus();
  }

  #move(row) {
    if (row === this.row || !row) return;
    if (this.row) this.row.tabIndex = -1;
    this.row = row;
    row.tabIndex = 0;
  }

  #press(event) {
    const row = event.target;
    if (!row.matches(ROW) || event.ctrlKey || event.altKey || event.metaKey) return;
    const actions = {
      ArrowDown: () => step(row, "nextElementSibling")?.focus(),
      ArrowUp: () => step(row, "previousElementSibling")?.focus(),
      Home: () => this.rows.querySelector(ROW).focus(),
      End: () => [...this.rows.querySelectorAll(ROW)].at(-1).focus(),
      ArrowRight: () => this.toggle(row, true),
      ArrowLeft: () => this.toggle(row, false),
      Enter: () => this.toggle(row),
      " ": () => this.toggle(row),
    };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault(); // the browser would scroll
    actions[event.key]();
  }
}

function step(row, direction) {
  let next = row[direction];
  while (next && !next.matches(ROW)) next = next[direction];
  return next;
}
