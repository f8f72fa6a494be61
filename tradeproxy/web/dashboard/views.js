// The tabs besides the live feed: each shows what the proxy keeps of one account, and asks again.

import { sortNames } from "./accounts.js";
import { Tabs } from "./tabs.js";

const INTERVAL = 5000; // without an event
const SOONEST = 1000; // between two requests, however many events there are

export class Views {
  /**
   * `views` has the shown objects by the name of their tabs. Their `request()` returns a page and
   * its parameters, `show(document, account)` and `clear(problem)` what came of it. One with
   * `search()` asks by itself, when its tab is chosen.
   */
  constructor({ tabs, choice, pages, isCurrent }, views) {
    this.choice = choice;
    this.pages = pages;
    this.isCurrent = isCurrent;
    this.views = views;
    this.paths = new Map();
    this.shown = ""; // the request whose answer is shown, as a text
    this.etag = undefined;
    for (const view of Object.values(views)) view.onChange?.(() => this.ask());
    choice.addEventListener("change", () => this.#begin());
    this.tabs = new Tabs(tabs, (name) => {
      this.name = name;
      this.#begin();
    });
    setInterval(() => this.ask(), INTERVAL);
  }

  /** Offer the accounts of the status; `path` of each is that of its stream. */
  offerAccounts(accounts) {
    const names = sortNames(Object.keys(accounts));
    const isNew = !this.paths.size;
    this.paths = new Map(names.map((name) => [name, accounts[name].path]));
    const known = Array.from(this.choice.options, (option) => option.value);
    if (known.join() !== names.join()) {
      const { value } = this.choice;
      this.choice.replaceChildren(...names.map((name) => new Option(name)));
      if (names.includes(value)) this.choice.value = value;
    }
    this.#offer();
    if (isNew) this.#begin();
  }

  /** Return the path of an account's stream. */
  pathOf(account) {
    return this.paths.get(account);
  }

  /** Something happened to an account: ask again soon. */
  hear(account) {
    if (account !== this.choice.value || this.timer) return;
    const passed = performance.now() - (this.askedAt ?? -SOONEST);
    this.timer = setTimeout(() => this.ask(), Math.max(0, SOONEST - passed));
  }

  /** Ask a page about the chosen account; the answer has its name, too. */
  async fetch(page, query, options) {
    const account = this.choice.value;
    const path = this.paths.get(account);
    if (path === undefined) return { unchanged: true };
    return { ...(await this.pages.fetch(path, page, query, options)), account };
  }

  /** Show times in another zone. */
  redraw() {
    for (const view of Object.values(this.views)) view.redraw();
  }

  #offer() {
    this.choice.hidden = this.paths.size < 2 || !Object.hasOwn(this.views, this.name ?? "");
  }

  #begin() {
    this.#offer();
    const view = this.views[this.name];
    if (view?.search) {
      if (this.paths.size) view.search();
    } else this.ask();
  }

  /** Ask the proxy for what is shown, if it is in contact and the page is visible. */
  async ask() {
    clearTimeout(this.timer);
    this.timer = null;
    const view = this.views[this.name];
    if (!view?.request || !this.paths.size || document.hidden || !this.isCurrent()) return;
    this.askedAt = performance.now();
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    const [page, query] = view.request();
    const key = JSON.stringify([this.choice.value, page, query]);
    const etag = key === this.shown ? this.etag : undefined;
    const found = await this.fetch(page, query, { etag, signal });
    if (signal.aborted || found.unchanged) return;
    // A failure that passes leaves what is shown; if it does not pass, the page says so everywhere.
    if (found.problem && !found.isFinal && key === this.shown && this.etag) return;
    this.shown = key;
    this.etag = found.etag;
    try {
      if (found.document) view.show(found.document, found.account);
      else view.clear(found.problem);
    } catch (error) {
      console.error(error);
      view.clear("The proxy's answer is of another version: reload this page.");
    }
  }
}
