// A sound and a notification of the browser for fills. Both are off until the reader wants them.

import { plural } from "./text.js";

const FILLS = new Set(["fill", "partial_fill"]);
const PAUSE = 500; // ms in which fills make one alert
const LISTED = 5; // fills that a notification lists

export class Alerts {
  /** `say(text)` shows why a choice has no effect. */
  constructor(preferences, say) {
    this.preferences = preferences;
    this.say = say;
    this.current = new Set(); // accounts whose events are news, not a replay
    this.fills = [];
    const { Notification } = globalThis;
    if (Notification?.permission !== "granted") preferences.turnOff("notification");
    // Browsers play no sound before the reader has used the page.
    for (const type of ["pointerdown", "keydown"]) addEventListener(type, () => this.#unlock());
  }

  /** From now on, the account's events are news. */
  begin(account) {
    this.current.add(account);
  }

  /** Alert the reader if an event is a fill, and news. */
  take(entry) {
    if (!FILLS.has(entry.event) || !this.current.has(entry.account)) return;
    if (!this.#wants("sound") && !this.#wants("notification")) return;
    this.fills.push(entry);
    this.timer ??= setTimeout(() => this.#alert(), PAUSE);
  }

  /** Follow the reader's choice: play the sound once, ask the browser for its permission. */
  async choose(name) {
    if (!this.#wants(name)) return;
    this.say("");
    if (name === "sound") {
      await this.#unlock();
      this.#beep();
    } else if (name === "notification" && (await askPermission()) !== "granted") {
      this.preferences.turnOff(name);
      this.say("The browser allows no notifications from this page.");
    }
  }

  #wants(name) {
    return this.preferences.get(name);
  }

  #alert() {
    const fills = this.fills.splice(0);
    this.timer = undefined;
    if (this.#wants("sound")) this.#beep();
    if (!this.#wants("notification")) return;
    const lines = fills.slice(-LISTED).map(describe);
    const title = fills.length === 1 ? lines[0] : plural(fills.length, "fill");
    const body = fills.length === 1 ? fills[0].order : lines.join("\n");
    try {
      new Notification(title, { body });
    } catch {
      // On phones, some browsers allow it only to service workers.
      this.preferences.turnOff("notification");
      this.say("This browser shows no notifications from pages.");
    }
  }

  async #unlock() {
    if (!this.#wants("sound") || !globalThis.AudioContext) return;
    this.audio ??= new AudioContext();
    if (this.audio.state !== "running") await this.audio.resume();
  }

  #beep() {
    // A suspended context would play it later.
    if (this.audio?.state !== "running") return;
    const { currentTime: now, destination } = this.audio;
    const tone = this.audio.createOscillator();
    const volume = this.audio.createGain();
    tone.frequency.value = 880; // Hz
    volume.gain.setValueAtTime(0.15, now);
    volume.gain.exponentialRampToValueAtTime(0.001, now + 0.25);
    tone.connect(volume).connect(destination);
    tone.start(now);
    tone.stop(now + 0.25);
  }
}

async function askPermission() {
  // Only pages on this machine or with TLS have notifications.
  return globalThis.Notification ? Notification.requestPermission() : "denied";
}

function describe({ account, event, side, quantity, symbol, price }) {
  return `${account}: ${event} ${side} ${quantity} ${symbol} at ${price}`.replaceAll(/ +/g, " ");
}
