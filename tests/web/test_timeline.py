"""Tests for the order of the dashboard's list: dashboard/timeline.js in Node.js."""

from __future__ import annotations

from typing import Any

from tests.support.scripts import ScriptTestCase

HEAD = """
const { Timeline } = await import("./timeline.js");
const timeline = new Timeline(4);
const names = (entries) => entries.map(({ name }) => name).join(" ");
const add = (account, second, name) => {
  const at = typeof second === "number" ? new Date(second * 1000).toISOString() : second;
  return names(timeline.add({ account, at, name }, 99_000));
};
"""


class TimelineTests(ScriptTestCase):
    """With two accounts, the newest event of one was up to 220 rows down."""

    def order(self, text: str) -> Any:
        return self.run_script(f"{HEAD}\n{text}")

    def test_replays_of_two_accounts_are_in_order_of_time(self) -> None:
        """Each replay arrives in one piece; a late event belongs to its time."""
        result = self.order("""
            add("paper", 1, "a"); add("paper", 4, "d"); add("live", 2, "b"); add("live", 3, "c");
            const result = [names(timeline.take()), names(timeline.take())];
            add("live", 0, "late");
            result.push(names(timeline.known()), names(timeline.take()), names(timeline.known()));
        """)
        self.assertEqual(result, ["a b c d", "", "a b c d", "late", "late a b c d"])

    def test_equal_and_missing_times_keep_the_order_of_arrival(self) -> None:
        """An event without a time comes after what its account has so far, or else now."""
        result = self.order("""
            add("live", "", "now"); add("paper", 7, "a"); add("paper", 7, "b");
            add("paper", 3, "late"); add("paper", "no time", "c");
            const result = names(timeline.take());
        """)
        self.assertEqual(result, "late a b c now")

    def test_limit_drops_the_oldest_by_time(self) -> None:
        """Not the first to arrive: another account's replay may be newer or older."""
        result = self.order("""
            const result = [];
            for (const second of [8, 9, 1, 2, 7]) result.push(add("paper", second, second));
            result.push(add("live", 3, "3"), names(timeline.take()));
            result.push(add("live", 0, "0"), add("live", 10, "10"), names(timeline.take()));
        """)
        self.assertEqual(result, ["", "", "", "", "", "1 2", "3 7 8 9", "", "0 3", "10"])
