// The connected clients, the slowest first.

import { count, make, plural, roughly, say } from "./text.js";

export class Clients {
  constructor(list, summary) {
    this.list = list;
    this.summary = summary;
  }

  show(clients, now, manyAccounts) {
    const { count: all, slow, dashboards, listed } = clients;
    const words = [`${count(all)} connected`, slow ? `${count(slow)} slow` : ""];
    if (listed.length < all) words.push(`the ${count(listed.length)} furthest behind are shown`);
    if (dashboards) words.push(`not counted: ${plural(dashboards, "stream")} of dashboards`);
    this.words = words.filter(Boolean).join(", ");
    say(this.summary, this.words);
    this.list.replaceChildren(...listed.map((client) => item(client, now, manyAccounts)));
  }

  /** Show the clients as those at a time of the past, which is a text. */
  freeze(time) {
    if (this.words) say(this.summary, `at ${time}: ${this.words}`);
  }
}

/** Return the tone and the text of a client's badge. */
function assess({ closing, slow, lag }) {
  if (closing) return ["warn", "closing"];
  if (slow) return ["bad", lag ? `slow, ${count(lag)} behind` : "slow"];
  return lag ? ["warn", `${plural(lag, "event")} behind`] : ["good", "up to date"];
}

function item(client, now, manyAccounts) {
  const [tone, standing] = assess(client);
  const badge = make("span", "badge", standing);
  badge.dataset.tone = tone;
  const manner = manyAccounts ? `${client.account} · ${client.dialect}` : client.dialect;
  const age = make("span", "quiet", `for ${roughly(now - Date.parse(client.since))}`);
  age.title = `since ${client.since}`;
  const agent = make("span", "agent", client.user_agent || "no user agent");
  agent.title = client.user_agent;
  return make(
    "li",
    "",
    make("div", "", make("span", "address", client.name || client.address), badge),
    make("div", "quiet", client.name ? `${client.address} · ` : "", manner, " · ", age),
    agent,
  );
}
