// The filters of the feed: which entries fit, and their copy in the page's URL.

const NAMES = ["account", "symbol", "event", "order"];
const MAX_KINDS = 100; // that the list of events offers
const PAUSE = 200; // ms; browsers limit how often a page changes its URL

export class Filters {
  /**
   * The URL's query has the first values; those of `event` and `account` that do not exist are
   * removed from it. Calls `changed()` when a value changes.
   */
  constructor(form, clear, kinds, changed) {
    this.fields = form.elements;
    this.clear = clear;
    this.kinds = new Set();
    for (const kind of kinds) this.offerKind(kind);
    const query = new URLSearchParams(location.search);
    for (const name of NAMES) this.#set(name, query.get(name) ?? "");
    this.checked = false; // whether the account exists
    form.addEventListener("submit", (event) => event.preventDefault());
    const change = () => {
      this.#showClear();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.#keep(), PAUSE);
      changed();
    };
    this.change = change;
    form.addEventListener("input", change);
    clear.addEventListener("click", () => {
      for (const name of NAMES) this.fields[name].value = "";
      this.fields.symbol.focus(); // the button goes
      change();
    });
    this.change = change;
    this.#showClear();
    if (this.fields.event.value !== (query.get("event") ?? "")) this.#keep();
  }

  /** Whether an event or a note fits. A note without an account is about all of them. */
  fit(entry) {
    const { account, symbol, event, order } = this.fields;
    if (account.value && entry.account && entry.account !== account.value) return false;
    if (entry.note) return true;
    if (event.value && entry.event !== event.value) return false;
    if (!plain(entry.order).includes(plain(order.value))) return false;
    const parts = plain(symbol.value).split(/[\s,]+/).filter(Boolean);
    return !parts.length || parts.some((part) => plain(entry.symbol).includes(part));
  }

  /** Offer the accounts if there is more than one. */
  offerAccounts(names) {
    const { account } = this.fields;
    if (!this.checked && account.value && !names.includes(account.value)) {
      account.selectedOptions[0].remove();
      account.value = "";
      this.change();
    }
    this.checked = true;
    account.hidden = names.length < 2 && !account.value;
    const known = new Set(Array.from(account.options, (option) => option.value));
    account.append(...names.filter((name) => !known.has(name)).map((name) => new Option(name)));
  }

  /** Offer a kind of event; Alpaca may add some. */
  offerKind(kind) {
    if (!kind || this.kinds.has(kind) || this.kinds.size > MAX_KINDS) return;
    this.kinds.add(kind);
    this.fields.event.append(new Option(kind));
  }

  #set(name, value) {
    const field = this.fields[name];
    // The accounts are not offered yet.
    if (name === "account" && value) field.append(new Option(value));
    field.value = name !== "event" || this.kinds.has(value) ? value : "";
  }

  #showClear() {
    this.clear.hidden = NAMES.every((name) => !this.fields[name].value);
  }

  #keep() {
    const url = new URL(location.href);
    for (const name of NAMES) {
      const { value } = this.fields[name];
      if (value) url.searchParams.set(name, value);
      else url.searchParams.delete(name);
    }
    history.replaceState(null, "", url);
  }
}

/** Upper and lower case are alike, and so are BTC/USD and BTCUSD. */
const plain = (text) => text.trim().toLowerCase().replaceAll("/", "");
