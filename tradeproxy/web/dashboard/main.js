// The page: it polls /status.json and follows the stream of every account. contact.js decides what
// is shown as current.

import { Accounts, sortNames } from "./accounts.js";
import { Alerts } from "./alerts.js";
import { Clients } from "./clients.js";
import { Clock } from "./clock.js";
import { Contact } from "./contact.js";
import { save, toCsv } from "./download.js";
import { read } from "./event.js";
import { Feed } from "./feed.js";
import { History } from "./history.js";
import { Notes } from "./notes.js";
import { OrderDetails } from "./order.js";
import { Orders } from "./orders.js";
import { Pages } from "./pages.js";
import { Positions } from "./positions.js";
import { Preferences } from "./preferences.js";
import { Details } from "./row.js";
import { openStorage } from "./storage.js";
import { Strategies } from "./strategies.js";
import { Stream } from "./stream.js";
import { duration, moment, plural, say, setZone, zoneAt } from "./text.js";
import { Views } from "./views.js";
import { Webhooks } from "./webhooks.js";

const PATIENCE = 5000;
const TOKEN = "tradeproxy token";

const at = (id) => document.getElementById(id);
const verdict = at("verdict");
const link = at("link");

const proxyClock = new Clock();
const clock = () => proxyClock.now();

const accounts = new Accounts(at("accounts"), at("account-card"));
const clients = new Clients(at("clients-list"), at("clients-summary"));
const webhooks = new Webhooks(at("webhooks"), at("webhooks-list"));
const pages = new Pages(() => token, ask);
const orderDetails = new OrderDetails(pages, (account) => views.pathOf(account), clock);
const details = new Details((cell, entry) => orderDetails.fill(cell, entry));
const feed = new Feed(
  {
    rows: at("rows"),
    nothing: at("nothing"),
    filters: at("filters"),
    clear: at("clear"),
    pause: at("pause"),
  },
  clock,
  details,
);
const notes = new Notes((...line) => feed.note(...line));
const preferences = new Preferences(at("settings"), openStorage("localStorage"), (name) => {
  applyPreferences();
  if (name === "zone") {
    feed.redraw();
    views.redraw();
    showContact();
    look();
  } else alerts.choose(name);
});
const alerts = new Alerts(preferences, (text) => say(at("settings-hint"), text));
const contact = new Contact();
const search = (page, query) => views.fetch(page, query);
const views = new Views(
  { tabs: at("tabs"), choice: at("choice"), pages, isCurrent: () => contact.isCurrent },
  {
    orders: new Orders(at("panel-orders"), clock, details),
    positions: new Positions(at("panel-positions")),
    strategies: new Strategies(at("panel-strategies"), clock),
    history: new History(at("panel-history"), clock, details, search),
  },
);
const streams = new Map();
const links = new Map(); // for each stream: its state, and the time of its next attempt
const cut = new Set(); // the streams that are lost while there is contact with the proxy
const noted = new Set(); // those of which the feed says so
const session = openStorage("sessionStorage");

let token = session.getItem(TOKEN) ?? "";
let next; // the timer of the next poll
let nextAt = 0; // when it fires
let looking = false;
let lookedAt = 0; // when the last request began, by performance.now()
let isOld = false; // whether the status has changed since then

function applyPreferences() {
  document.documentElement.dataset.theme = preferences.get("theme");
  setZone(preferences.get("zone"));
  for (const title of document.querySelectorAll("[data-time]")) {
    say(title, `${title.dataset.time} (${zoneAt(clock())})`);
  }
}

async function look() {
  if (at("ask").open) return;
  isOld = looking;
  if (looking) return;
  clearTimeout(next);
  looking = true;
  lookedAt = performance.now();
  tick();
  const { status, document } = await fetchStatus();
  looking = false;
  if (at("ask").open) return; // a stream was refused meanwhile
  if (document) understand(document);
  else if (status === 401) ask();
  else lose(status ? `HTTP ${status}` : "");
  plan();
}

/** Look at once because the status has changed, or a second after the last look. */
function refresh() {
  isOld = true;
  if (!looking) plan();
}

/** A proxy that was upgraded may answer what this page cannot show. That must not look current. */
function understand(document) {
  try {
    find(document);
  } catch (error) {
    console.error(error);
    lose("its answer is of another version: reload this page");
  }
}

/** The proxy has answered: show its status, and connect the streams again if contact was lost. */
function find(document) {
  const wasCurrent = contact.isCurrent;
  show(document); // first: only an answer that can be shown is a sign of contact
  const away = contact.answer(Date.now());
  showContact();
  if (away !== null) {
    feed.note("", `contact with the proxy found again after ${duration(away)}`, "good");
  }
  if (!wasCurrent) for (const stream of streams.values()) stream.hurry();
  for (const name of cut) noteCut(name);
}

/** The proxy does not answer: end the streams too, which may be dead without a close event. */
function lose(reason) {
  const isNew = contact.fail(reason);
  cut.clear();
  noted.clear();
  for (const stream of streams.values()) stream.rest();
  if (isNew) feed.note("", `contact with the proxy lost; ${lastContact()}`, "bad");
  showContact();
}

async function fetchStatus() {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const signal = AbortSignal.timeout(PATIENCE);
  try {
    const answer = await fetch("status.json", {
      headers,
      signal,
      cache: "no-store",
      credentials: "omit",
    });
    return { status: answer.status, document: answer.ok ? await answer.json() : null };
  } catch {
    return {};
  }
}

function plan() {
  clearTimeout(next);
  if (at("ask").open) return;
  const passed = performance.now() - lookedAt;
  const wait = isOld ? contact.hurry(passed) : contact.delay(document.hidden);
  nextAt = Date.now() + wait;
  next = setTimeout(look, wait);
  showLink();
}

const lastContact = () =>
  contact.heard === null
    ? "there was none before"
    : `the last sign was at ${moment(contact.heard + proxyClock.ahead, clock(), false)}`;

/** Show whether the rest of the page is current. */
function showContact() {
  document.body.classList.toggle("stale", !contact.isCurrent);
  const since = moment(contact.heard + proxyClock.ahead, clock(), false);
  const said = contact.describe(since);
  at("remedy").hidden = !said?.remedy;
  say(at("remedy"), said?.remedy ?? "");
  if (said) {
    verdict.dataset.tone = said.tone;
    say(verdict, said.text);
    document.title = said.title;
    if (contact.heard !== null) accounts.freeze(contact.heard + proxyClock.ahead);
    clients.freeze(since);
  }
  showLink();
}

function tick() {
  const now = Date.now();
  if (contact.expire(now, document.hidden)) {
    if (contact.hasSlept(now)) for (const stream of streams.values()) stream.rest();
    showContact();
  }
  if (contact.isCurrent) accounts.tick();
  showLink();
}

function show(status) {
  const now = Date.parse(status.now);
  if (Number.isNaN(now)) throw new TypeError("a status without a time");
  proxyClock.set(now);
  const names = sortNames(Object.keys(status.accounts));
  for (const [name, stream] of streams) {
    if (names.includes(name)) continue;
    stream.end();
    streams.delete(name);
    links.delete(name);
    cut.delete(name);
    noted.delete(name);
  }
  accounts.show(status.accounts, clock);
  clients.show(status.clients, clock(), names.length > 1);
  webhooks.show(status.webhooks, clock(), names.length > 1);
  feed.offerAccounts(names);
  views.offerAccounts(status.accounts);
  for (const name of names) if (!streams.has(name)) follow(name, status.accounts[name].path);
  conclude(status.accounts);
}

function conclude(states) {
  const names = sortNames(Object.keys(states));
  const troubled = names.map((name) => [name, states[name]]).filter(([, state]) => !state.ready);
  const down = troubled.some(([, state]) => state.upstream.state === "down");
  const [first] = troubled;
  verdict.dataset.tone = first ? (down ? "bad" : "warn") : "good";
  if (!first) say(verdict, "all is well");
  else if (troubled.length === 1) say(verdict, `${first[0]}: ${first[1].reason}`);
  else say(verdict, `${plural(troubled.length, "account")} in trouble`);
  document.title = first ? `▲ ${first[0]} – tradeproxy` : "tradeproxy";
}

function follow(name, path) {
  const told = {
    heard: () => contact.hear(Date.now()),
    event: (message, text) => {
      const entry = read(name, message, text);
      if (feed.add(entry)) alerts.take(entry);
      views.hear(name);
    },
    status: (data) => {
      if (data.event === "replay" && data.state !== "begun") alerts.begin(name);
      notes.take(name, data);
      refresh();
    },
    state: (state, wait) => {
      const was = links.get(name)?.state;
      links.set(name, { state, at: Date.now() + wait });
      if (state === "live" && cut.delete(name) && noted.delete(name)) {
        feed.note(name, "this page gets this account's events again", "good");
      } else if (state === "waiting" && was === "live") {
        cut.add(name);
        look(); // which finds out whether only this stream is lost
      }
      showLink();
    },
    refused: ask,
  };
  streams.set(name, new Stream(path, token, told));
}

/** Say in the feed, once, that a stream is lost although the proxy answers. */
function noteCut(name) {
  if (noted.has(name)) return;
  noted.add(name);
  feed.note(name, "this page lost the account's stream; its events follow late", "warn");
}

/** Show whether events arrive, and when the next attempt to connect is. */
function showLink() {
  const all = [...links.values()];
  const waiting = all.filter(({ state }) => state === "waiting");
  const isLive = contact.isCurrent && all.every(({ state }) => state === "live");
  link.hidden = contact.state === "refused";
  link.dataset.tone = isLive ? "good" : contact.state === "lost" ? "bad" : "warn";
  if (isLive) say(link, "connected");
  else if (contact.state === "lost" && !looking) sayNext(nextAt);
  else if (contact.isCurrent && waiting.length) sayNext(Math.min(...waiting.map(({ at }) => at)));
  else say(link, "connecting…");
}

function sayNext(time) {
  const seconds = Math.max(1, Math.ceil((time - Date.now()) / 1000));
  say(link, `not connected; next attempt in ${seconds} s`);
}

/** Drop all streams and ask for a token; the page starts over with it. */
function ask() {
  for (const stream of streams.values()) stream.end();
  streams.clear();
  links.clear();
  cut.clear();
  noted.clear();
  clearTimeout(next);
  contact.refuse();
  showContact();
  if (token) say(at("ask-reason"), "That token was refused; another one?");
  session.removeItem(TOKEN);
  token = "";
  if (!at("ask").open) at("ask").showModal();
}

at("ask").addEventListener("cancel", (event) => event.preventDefault());
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  session.setItem(TOKEN, token);
  at("ask").close();
  look();
});

function wake() {
  if (document.hidden) return;
  tick();
  if (contact.isCurrent) for (const stream of streams.values()) stream.hurry();
  look();
}

document.addEventListener("visibilitychange", wake);
addEventListener("online", wake);
setInterval(tick, 1000);
showContact();
at("download").addEventListener("click", () => {
  const time = new Date(clock()).toISOString().slice(0, 19).replaceAll(":", "-");
  save(toCsv(feed.shown()), `trade-updates-${time}Z.csv`);
});
applyPreferences();
look();
