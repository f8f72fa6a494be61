// The tabs of the page. The URL's fragment has the chosen one, so a link or a bookmark keeps it.

export class Tabs {
  /** Calls `changed(name)` for the tab that is shown, also at the start. */
  constructor(list, changed) {
    this.tabs = [...list.querySelectorAll("[role=tab]")];
    this.changed = changed;
    list.addEventListener("click", ({ target }) => this.#choose(target.closest("[role=tab]")));
    list.addEventListener("keydown", (event) => this.#press(event));
    addEventListener("hashchange", () => this.#show(this.#named()));
    this.#show(this.#named());
  }

  /** The name of the tab that is shown. */
  get chosen() {
    return this.tabs.find((tab) => tab.ariaSelected === "true").dataset.tab;
  }

  #named() {
    return this.tabs.find((tab) => `#${tab.dataset.tab}` === location.hash) ?? this.tabs[0];
  }

  #choose(tab) {
    if (!tab || tab.ariaSelected === "true") return;
    const url = new URL(location.href);
    url.hash = tab === this.tabs[0] ? "" : tab.dataset.tab;
    history.replaceState(null, "", url);
    this.#show(tab);
  }

  #show(chosen) {
    for (const tab of this.tabs) {
      const isChosen = tab === chosen;
      tab.ariaSelected = String(isChosen);
      tab.tabIndex = isChosen ? 0 : -1; // the tabs are one tab stop
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    this.changed(chosen.dataset.tab);
  }

  #press(event) {
    const place = this.tabs.indexOf(event.target);
    if (place < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const places = {
      ArrowRight: (place + 1) % this.tabs.length,
      ArrowLeft: (place - 1 + this.tabs.length) % this.tabs.length,
      Home: 0,
      End: this.tabs.length - 1,
    };
    if (!Object.hasOwn(places, event.key)) return;
    event.preventDefault(); // the browser would scroll
    const tab = this.tabs[places[event.key]];
    tab.focus();
    this.#choose(tab);
  }
}
