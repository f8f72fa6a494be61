"""Tests for the lines of the dashboard's feed and their times: notes.js and clock.js in Node.js."""

from __future__ import annotations

import json
from typing import Any

from tests.support.scripts import ScriptTestCase

CLOCK = """
import { Clock } from "./clock.js";
let local = 0;
const clock = new Clock(() => local);
"""


class NotesTests(ScriptTestCase):
    """What a proxy_status message adds to the feed."""

    def take(self, *messages: dict[str, Any], account: str = "paper") -> Any:
        """Return the lines for the messages: text, tone and time, which is None for now."""
        return self.run_script(
            'import { Notes } from "./notes.js";\n'
            "const result = [];\n"
            "const notes = new Notes((account, text, tone, at) =>"
            " result.push([text, tone, at ?? null]));\n"
            f'for (const data of {json.dumps(messages)}) notes.take("{account}", data);'
        )

    def test_line_has_the_time_of_its_message(self) -> None:
        """Lines had this page's time, which differed from page to page and from the log.

        "events are on the disk again", 15:45:21.732, stood above an event of 15:45:21.837.
        `since` stays while only the reason changes, so such a line has no time of its own.
        """
        lost, back = "2026-07-24T14:42:51.000000Z", "2026-07-24T14:43:05.000000Z"
        upstream = {"event": "upstream", "state": "down", "since": lost}
        journal = {"event": "journal", "state": "not durable", "since": lost, "reason": "full"}
        lines = self.take(
            upstream | {"reason": "connection lost"},
            upstream | {"reason": "HTTP 503"},
            upstream | {"state": "up", "since": back, "reason": "streaming"},
            journal,
            journal | {"state": "durable", "since": back, "reason": ""},
        )
        self.assertEqual(
            lines,
            [
                ["Alpaca's stream is down: connection lost", "bad", lost],
                ["Alpaca's stream is down: HTTP 503", "bad", None],
                ["Alpaca's stream is up", "good", back],
                ["events are delivered without being on the disk: full", "bad", lost],
                ["events are on the disk again before they are delivered", "good", back],
            ],
        )

    def test_page_opened_in_an_outage_has_its_line(self) -> None:
        """After a reload the list had no word of the outage, and no reason.

        The line is at the begin of the outage. Without an outage a `hello` adds nothing.
        """
        lost, back = "2026-07-24T14:42:51.000000Z", "2026-07-24T14:43:05.000000Z"
        up = {"state": "up", "since": back, "reason": "streaming"}
        down = {"state": "down", "since": lost, "reason": "HTTP 503"}
        durable = {"state": "durable", "since": "2026-07-24T14:00:00.000000Z", "reason": ""}
        failed = {"state": "not durable", "since": lost, "reason": "full"}
        hello: dict[str, Any] = {"event": "hello", "gaps": [], "cursor": None}
        lines = self.take(
            hello | {"upstream": down, "journal": durable},
            hello | {"upstream": down, "journal": durable},
            {"event": "upstream", **down, "reason": "login refused"},
            hello | {"upstream": up, "journal": failed},
            {"event": "journal", **durable, "since": back},
        )
        again = "events are on the disk again before they are delivered"
        self.assertEqual(
            lines,
            [
                ["Alpaca's stream is down; latest reason: HTTP 503", "bad", lost],
                ["Alpaca's stream is down: login refused", "bad", None],
                ["Alpaca's stream is up", "good", back],
                [
                    "events are delivered without being on the disk; latest reason: full",
                    "bad",
                    lost,
                ],
                [again, "good", back],
            ],
        )
        quiet = hello | {"upstream": up, "journal": durable}
        restarted = hello | {"upstream": {**up, "since": lost}, "journal": durable}
        self.assertEqual(self.take(quiet, quiet, restarted), [])

    def test_only_what_matters_has_a_line(self) -> None:
        """A gap that is settled and a replay that is impossible, but not their beginnings."""
        gap = {"event": "gap", "events": 1, "reason": ""}
        lines = self.take(
            gap | {"outcome": "pending"},
            gap | {"outcome": "recovered"},
            gap | {"outcome": "orders", "reason": "refused"},
            {"event": "replay", "state": "begun", "reason": ""},
            {"event": "replay", "state": "impossible", "reason": "trimmed"},
            {"event": "position", "cursor": "1"},
        )
        self.assertEqual(
            lines,
            [
                ["gap recovered, 1 event found", "good", None],
                ["gap orders, 1 event found: refused", "warn", None],
                ["events are missing at this place: trimmed", "bad", None],
            ],
        )


class ClockTests(ScriptTestCase):
    """The proxy's clock, as the page knows it."""

    def test_old_answer_does_not_set_the_clock_back(self) -> None:
        """An answer may be a second old: lines of the page were up to a second too early."""
        result = self.run_script(
            CLOCK
            + """
            const result = [clock.ahead];
            for (const age of [700, 0, 900, 300]) {
              local += 2000;
              clock.set(local + 60000 - age);
              result.push(clock.ahead);
            }
            result.push(clock.now() - local);
            """
        )
        self.assertEqual(result, [0, 59300, 60000, 60000, 60000, 60000])

    def test_clock_that_is_set_counts_at_once(self) -> None:
        """Forward or back; a slow drift counts after some answers."""
        result = self.run_script(
            CLOCK
            + """
            const result = [60000, 3000, 90000].map((ahead) => {
              clock.set(local + ahead);
              return clock.ahead;
            });
            for (let count = 0; count < 8; count += 1) clock.set(local + 89000);
            result.push(clock.ahead);
            """
        )
        self.assertEqual(result, [60000, 3000, 90000, 89000])
