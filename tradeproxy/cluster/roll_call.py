"""Which node begins a new log when Redis has none: the one that has read most of the old one.

Redis may have been emptied, or an operator may have deleted a key. Then only the nodes still have
the last events, and a node that has just started has none. So every node that may lead reports the
last number that it has read, with each check of the lease, and reads the reports of the others:

| state    | event                                  | next                          |
|----------|----------------------------------------|-------------------------------|
| idle     | a check finds no log                   | calling, since now            |
| calling  | CALL_TIME has passed                   | complete                      |
| complete | no other node reports more             | this node may begin a log     |
| any      | a check finds a log                    | idle                          |

A first start waits for CALL_TIME too: an empty Redis does not show that there was a log. A leader
whose term goes on does not wait: it has read all that others wrote, and has what it wrote itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CALL_TIME = 7.0
"""Seconds in which every node reports that can: it reconnects, and reads the log's absence.

A leader that cannot reach Redis has ended its term by then.
"""

REPORT_TIME = 2.0
"""Seconds for which a report counts. A node makes two in a second, and a dead node none."""

KEPT = 10_000
"""Milliseconds after the last report until Redis deletes all of them."""

_NOTHING_READ = -1


@dataclass(frozen=True, slots=True)
class _Report:
    last: int
    count: int
    """How many reports the node had made before."""
    seen: float
    """When this node read it first."""


class RollCall:
    """The roll call as one node sees it. All times are by its own clock, in seconds."""

    def __init__(self, owner: str) -> None:
        """`owner` is this node's name."""
        self._owner = owner
        self._since: float | None = None
        self._count = 0
        self._reports: dict[str, _Report] = {}

    def end(self) -> None:
        """Record that there is a log."""
        self._since = None
        self._reports.clear()

    def report(self, last: int | None, now: float) -> str:
        """Record that there is no log, and return this node's report.

        `last` is the last number that it has read; None if it has read no log.
        """
        self._since = now if self._since is None else self._since
        self._count += 1
        return f"{_NOTHING_READ if last is None else last} {self._count}"

    def record_reports(self, reports: Mapping[str, str], now: float) -> None:
        """Record the reports of all nodes, by their names."""
        for owner, text in reports.items():
            try:
                last, count = map(int, text.split())
            except ValueError:  # not written by a node
                continue
            known = self._reports.get(owner)
            if known is None or known.count != count:
                self._reports[owner] = _Report(last, count, now)

    def may_begin(self, now: float) -> bool:
        """Whether this node may begin a log."""
        if self._since is None or now - self._since < CALL_TIME:
            return False
        reports = self._reports.items()
        counting = {owner: each.last for owner, each in reports if now - each.seen < REPORT_TIME}
        # Names decide between equal numbers.
        first = max(counting, key=lambda owner: (counting[owner], owner), default=None)
        return first == self._owner
