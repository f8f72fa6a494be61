"""Tests for the accounts on the dashboard: dashboard/accounts.js in Node.js."""

from __future__ import annotations

from tests.support.scripts import ScriptTestCase

PAGE = """
class Element {
  children = [];
  dataset = {};
  style = {};
  classList = { add() {}, toggle() {} };
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; this.changes = (this.changes ?? 0) + 1; }
  insertBefore(child) { this.append(child); }
  setAttribute() {}
  getAttribute() { return ""; }
  get textContent() {
    return this.children.map((child) => child.textContent ?? child).join("");
  }
  set textContent(text) { this.children = [text]; }
}
globalThis.document = { createElement: () => new Element(), createElementNS: () => new Element() };
const names = [
  "name state role trouble reason remedy attempt help last today gaps duplicates reconnects",
  "clients events latency history summary list",
].join(" ").split(" ");
const at = Object.fromEntries(names.map((name) => [name, new Element()]));
const article = new Element();
article.querySelectorAll = () =>
  names.map((name) => Object.assign(at[name], { dataset: { is: name } }));
const template = { content: { cloneNode: () => ({ firstElementChild: article }) } };
process.env.TZ = "UTC";
const { Accounts } = await import("./accounts.js");
const { setZone } = await import("./text.js");
const accounts = new Accounts(new Element(), template);
const gap = {
  begin: "2026-07-24T14:42:50Z", end: "2026-07-24T14:42:59Z",
  outcome: "lost", reason: "", events: 0,
};
const state = {
  ready: true, reason: "", role: null, upstream: { state: "up", since: gap.end }, last_event: null,
  gaps: [gap], series: { end: gap.end, step: 10, events: [], latency: [] },
};
const show = (now) => {
  accounts.show({ paper: state }, () => Date.parse(now));
  const time = /(?:[0-9]{2}-[0-9]{2} )?[0-9:]{8}/;
  return [at.list, at.summary].map(({ textContent }) => time.exec(textContent)[0]);
};
"""


class GapTests(ScriptTestCase):
    """The gaps of an account."""

    def test_times_of_gaps_follow_the_zone_and_the_day(self) -> None:
        """They stayed in the former time zone, and without a date on the next day."""
        result = self.run_script(
            PAGE
            + """
            const result = [show("2026-07-24T15:00:00Z"), show("2026-07-24T15:00:02Z")];
            const changes = at.list.changes;
            setZone("America/New_York");
            result.push(show("2026-07-24T15:00:04Z"), show("2026-07-25T15:00:00Z"), changes);
            """
        )
        self.assertEqual(
            result,
            [["14:42:50"] * 2, ["14:42:50"] * 2, ["10:42:50"] * 2, ["07-24 10:42:50"] * 2, 1],
        )


class PastTests(ScriptTestCase):
    """The card without contact with the proxy."""

    def test_nothing_is_current_without_contact(self) -> None:
        """The card of a killed leader said "this node leads" and "2 s ago" for minutes."""
        result = self.run_script(
            PAGE
            + """
            const texts = () =>
              [at.state, at.role, at.last, at.reason, at.remedy, at.attempt].map(
                ({ textContent }) => textContent,
              );
            setZone("UTC");
            state.last_event = "2026-07-24T14:59:58Z";
            state.role = { part: "leader", lag: 0 };
            show("2026-07-24T15:00:00Z");
            const result = [texts()];
            accounts.freeze(Date.parse("2026-07-24T15:00:00Z"));
            result.push(texts());
            state.role = { part: "follower", lag: 2 };
            Object.assign(state, { ready: false, reason: "connection lost" });
            state.journal = { durable: true };
            state.upstream = { state: "down", since: gap.end, next_attempt: null };
            show("2026-07-24T15:00:00Z");
            accounts.freeze(Date.parse("2026-07-24T15:00:00Z"));
            result.push(texts());
            show("2026-07-24T15:00:00Z");
            result.push(texts());
            """
        )
        streaming, was_streaming, was_down, down = result
        self.assertEqual(streaming[:3], ["streaming for 17 min 1 s", "this node leads", "2 s ago"])
        self.assertEqual(
            was_streaming[:3], ["was streaming for 17 min 1 s", "this node led", "at 14:59:58"]
        )
        self.assertEqual(
            was_down,
            [
                "was down for 17 min 1 s",
                "this node followed, 2 events behind",
                "at 14:59:58",
                "was: connection lost",
                "",
                "",
            ],
        )
        self.assertEqual(
            down[:4],
            [
                "down for 17 min 1 s",
                "this node follows, 2 events behind",
                "2 s ago",
                "connection lost",
            ],
        )
        self.assertTrue(down[4].startswith("What to do: "), down)


class TroubleTests(ScriptTestCase):
    """The reason why an account is not ready."""

    def test_full_disk_has_its_begin(self) -> None:
        """The card said "streaming for 5 min" and the reason, but not since when the disk is full.

        Without contact that is of the past. Other trouble has no time: `since` is the stream's.
        """
        result = self.run_script(
            PAGE
            + """
            const texts = [];
            const look = (journal, reason) => {
              Object.assign(state, { ready: false, reason, journal, since: gap.begin });
              show("2026-07-24T15:00:00Z");
              texts.push(at.reason.textContent);
            };
            setZone("UTC");
            look({ durable: false }, "the journal is not durable: disk is full");
            accounts.freeze(Date.parse("2026-07-24T15:00:00Z"));
            texts.push(at.reason.textContent);
            look({ durable: true }, "new events wait for older ones");
            state.upstream = { state: "down", since: gap.end, next_attempt: null };
            look({ durable: false }, "connection lost");
            const result = texts;
            """
        )
        full = "the journal is not durable: disk is full · since 14:42:50"
        self.assertEqual(
            result, [full, f"was: {full}", "new events wait for older ones", "connection lost"]
        )
