// The webhooks: whether each sends, when it last did, and what it has left out.

import { count, make, plural, roughly } from "./text.js";

const TONES = { ready: "good", sending: "good", waiting: "warn", retrying: "bad", stopped: "bad" };

export class Webhooks {
  constructor(section, list) {
    this.section = section;
    this.list = list;
  }

  /** Show the webhooks; a proxy without one, or of an older version, has no section. */
  show(webhooks, now, manyAccounts) {
    const all = webhooks ?? [];
    this.section.hidden = !all.length;
    this.list.replaceChildren(...all.map((webhook) => item(webhook, now, manyAccounts)));
  }
}

/** Return the tone of a webhook's badge, and what is known of it in one line. */
export function describe(webhook, now, manyAccounts) {
  const { account, format, last_sent: last, sent, rejected, skipped, state, reason } = webhook;
  const words = [
    manyAccounts ? account : "",
    format,
    last ? `sent ${count(sent)}, the last one ${roughly(now - Date.parse(last))} ago` : "none sent",
    rejected ? `${count(rejected)} refused` : "",
    skipped ? `${plural(skipped, "event")} skipped` : "",
    reason,
  ];
  return [TONES[state] ?? "warn", words.filter(Boolean).join(" · ")];
}

function item(webhook, now, manyAccounts) {
  const [tone, words] = describe(webhook, now, manyAccounts);
  const badge = make("span", "badge", webhook.state);
  badge.dataset.tone = tone;
  return make(
    "li",
    "",
    make("div", "", make("span", "address", webhook.name), badge),
    make("div", "quiet", words),
  );
}
