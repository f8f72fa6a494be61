"""Tests for the dashboard's contact with the proxy: contact.js and stream.js in Node.js."""

from __future__ import annotations

from typing import Any

from tests.support.scripts import ScriptTestCase

HEAD = 'import { Contact } from "./contact.js";\nconst contact = new Contact(() => 0.5);\n'


class ContactTests(ScriptTestCase):
    """The states, and what the page says in each."""

    def run_contact(self, text: str) -> Any:
        return self.run_script(HEAD + text)

    def test_only_an_answer_is_current(self) -> None:
        """The page showed the last answer as current, whatever had become of the proxy."""
        result = self.run_contact(
            """
            const result = [[contact.state, contact.describe("")]];
            const step = (action) => {
              action();
              result.push([contact.isCurrent, contact.describe("03:12:07")?.text ?? ""]);
            };
            step(() => contact.fail(""));
            step(() => contact.answer(1000));
            step(() => contact.fail(""));
            step(() => contact.fail("HTTP 502"));
            step(() => contact.refuse());
            step(() => contact.answer(9000));
            step(() => contact.expire(20000, false));
            """
        )
        [state, said], *steps = result
        self.assertEqual(
            (state, said["text"], said["tone"]), ("asking", "asking the proxy…", "over")
        )
        since = "no contact with the proxy since 03:12:07"
        self.assertEqual(
            steps,
            [
                [False, "no contact with the proxy"],
                [True, ""],
                [False, since],
                [False, f"{since} (HTTP 502)"],
                [False, "the proxy asks for a token"],
                [True, ""],
                [False, "last contact with the proxy at 03:12:07"],
            ],
        )

    def test_loss_is_dated_by_last_sign_and_noted_once(self) -> None:
        """A frame of a stream is a sign too; failed attempts do not move the time."""
        result = self.run_contact(
            """
            contact.answer(1000);
            contact.hear(2500);
            const news = [contact.fail(""), contact.fail(""), contact.fail("")];
            const since = contact.heard;
            const away = contact.answer(62500);
            const result = [news, since, away, contact.answer(64500), contact.fail("")];
            """
        )
        self.assertEqual(result, [[True, False, False], 2500, 60000, None, True])

    def test_first_contact_ends_no_loss(self) -> None:
        """There is nothing to find again if the proxy never answered before."""
        self.assertIsNone(
            self.run_contact('contact.fail(""); const result = contact.answer(1000);')
        )

    def test_attempts_wait_longer_each_time(self) -> None:
        """Up to 8 s; with contact the status is requested every 2 s, 15 s while hidden."""
        result = self.run_contact(
            """
            contact.answer(0);
            const result = [contact.delay(false), contact.delay(true)];
            for (let number = 0; number < 7; number += 1) {
              contact.fail("");
              result.push(contact.delay(number % 2 === 0));
            }
            contact.answer(0);
            result.push(contact.delay(false));
            """
        )
        self.assertEqual(result, [2000, 15000, 500, 1000, 2000, 4000, 8000, 8000, 8000, 2000])

    def test_status_message_brings_the_next_request_forward(self) -> None:
        """At once, but one request a second at most; never sooner while contact is lost.

        The card said "gap pending, 0 events found" above the line "gap recovered, 21 events found".
        """
        result = self.run_contact(
            """
            const passed = [0, 400, 1000, 5000];
            contact.answer(0);
            const result = [passed.map((time) => contact.hurry(time))];
            for (let number = 0; number < 3; number += 1) contact.fail("");
            result.push(passed.map((time) => contact.hurry(time)));
            """
        )
        self.assertEqual(result, [[1000, 600, 0, 0], [2000, 2000, 2000, 2000]])

    def test_silence_ends_what_is_current(self) -> None:
        """A page that slept, or a clock that was set, is not current before the next answer."""
        result = self.run_contact(
            """
            const after = (wait, isHidden) => {
              contact.answer(100000);
              const expired = contact.expire(100000 + wait, isHidden);
              return [expired, contact.isCurrent, contact.hasSlept(100000 + wait)];
            };
            const result = [
              after(9999, false), after(10000, false), after(-10000, false),
              after(89999, true), after(90000, true),
            ];
            """
        )
        self.assertEqual(
            result,
            [
                [False, True, False],
                [True, False, False],
                [True, False, False],
                [False, True, False],
                [True, False, True],
            ],
        )


STREAM = """
import { Stream } from "./stream.js";
const sockets = [];
globalThis.document = { baseURI: "http://localhost:8099/" };
globalThis.WebSocket = class {
  constructor(url) {
    this.url = String(url);
    sockets.push(this);
  }
  close() {
    this.closed = true;
  }
};
const [states, waits] = [[], []];
let heard = 0;
const stream = new Stream("trade-updates-paper", "", {
  heard: () => (heard += 1), event() {}, status() {}, refused() {},
  state: (state, wait) => states.push(state) && waits.push(wait),
});
const receive = (data) => {
  sockets.at(-1).onmessage({ data: JSON.stringify({ stream: "proxy_status", data }) });
};
"""


class StreamTests(ScriptTestCase):
    """The connection of one account."""

    def test_resting_stream_waits_for_contact(self) -> None:
        """Without contact only the page itself tries; a late close event changes nothing."""
        result = self.run_script(
            STREAM
            + """
            receive({ event: "hello", cursor: "paper:1:6:0" });
            receive({ event: "replay", state: "complete", cursor: "paper:1:7:0" });
            stream.rest();
            sockets[0].onclose({ code: 1006 });
            const resting = [...states, sockets.length, sockets[0].closed];
            stream.hurry();
            stream.hurry();
            const result = [resting, sockets.length, states.at(-1), sockets[1].url, heard];
            """
        )
        resting, count, state, url, heard = result
        self.assertEqual(resting, ["connecting", "live", "resting", 1, True])
        self.assertEqual((count, state, heard), (2, "connecting", 2))
        self.assertEqual(
            url,
            "ws://localhost:8099/trade-updates-paper?proxy_status=1&dashboard=1&since_id=paper%3A1%3A7%3A0",
        )

    def test_stream_that_is_closed_behind_its_hello_is_not_live(self) -> None:
        """While the journal cannot be read, every connection ends so.

        Two lines in the feed each half a second hid the events, and the delay did not grow.
        """
        result = self.run_script(
            STREAM
            + """
            globalThis.setTimeout = (call) => call();
            Math.random = () => 0.5;
            for (let number = 0; number < 5; number += 1) {
              receive({ event: "hello", cursor: null });
              sockets.at(-1).onclose({ code: 1013 });
            }
            receive({ event: "replay", state: "begun" });
            receive({ event: "replay", state: "impossible" });
            sockets.at(-1).onclose({ code: 1006 });
            const live = states.filter((state) => state === "live");
            const result = [live.length, waits.filter(Boolean)];
            """
        )
        self.assertEqual(result, [1, [500, 1000, 2000, 4000, 8000, 500]])

    def test_ended_stream_stays_ended(self) -> None:
        """Neither rest() nor hurry() nor a close event opens it again."""
        result = self.run_script(
            STREAM
            + """
            stream.end();
            sockets[0].onclose({ code: 1006 });
            stream.rest();
            stream.hurry();
            const result = [sockets.length, states];
            """
        )
        self.assertEqual(result, [1, ["connecting"]])
