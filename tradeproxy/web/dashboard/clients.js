// The connected clients, the slowest first.

import { count, make, plural, roughly, say } from "./text.js";

export class Clients {
  constructor(list, summary) {
    this.list = list;
    this.summary = summary;
  }

  show(clients, now, manyAccounts) {
    const { count: all, slow, listed } = clients;
    const words = [`${count(all)} connected`, slow ? `${count(slow)} slow` : ""];
    if (listed.length < all) words.push(`the ${count(listed.length)} furthest behind are shown`);
    this.words = words.filter(Boolean).join(", ");
    say(this.summary, this.words);
    this.list.replaceChildren(...listed.map((client) => item(client, now, manyAccounts)));
  }

  /** Show the clients as those at a time of the past, which is a text. */
  freeze(time) {
    if (this.words) say(this.summary, `at ${time}: ${this.words}`);
  }
}

function item(client, now, manyAccounts) {
  const [tone, standing] = client.slow
    ? ["bad", client.lag ? `slow, ${count(client.lag)} behind` : "slow"]
    : client.lag
      ? ["warn", `${plural(client.lag, "event")} behind`]
      : ["good", "up to date"];
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
    make("div", "", make("span", "address", client.address), badge),
    make("div", "quiet", manner, " · ", age),
    agent,
  );
}
