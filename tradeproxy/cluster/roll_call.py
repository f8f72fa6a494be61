"""Which node begins a new log when Redis has none: the one that has read most of the old one.

Redis may have been emptied, or an operator may have deleted a key. Then only the nodes still have
the last events, and a node that has just started has none. So every node that may lead reports the
last number that it has read, with each check of the lease, and reads the reports of the others:

| state    | event                                  | next                          |
|----------|----------------------------------------|-------------------------------|
| idle     | a check finds no log                   | calling, since now            |
| any      | Redis lost this node's last report     | calling, since now            |
| calling  | CALL_TIME has passed                   | complete                      |
| complete | no other node reports more             | this node may begin a log     |
| any      | a check finds a log, or no Redis       | idle                          |

A first start waits for CALL_TIME too: an empty Redis does not show that there was a log. A log that
begins deletes the reports, and so does the loss of all data. So while Redis has this node's last
report, no log was there that no check has found. A leader whose term goes on does not wait: it has
read all that others wrote, and has what it wrote itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CALL_TIME = 10.0
"""Seconds in which every node reports that can: it reconnects, and reads the log's absence.

As long as a lease: an emptied Redis has lost the lease too, and its leader may not know.
"""

REPORT_TIME = 2.0
"""Seconds for which a report counts. A node makes two in a second, and a dead node none."""

KEPT = 10_000
"""Milliseconds after the last report until Redis deletes all of them."""

NOT_CALLING = "none"
"""Stands for the report of a node that has made none since there was a log."""

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
        self.reported = NOT_CALLING
        """This node's last report that Redis has confirmed, or NOT_CALLING."""
        self._owner = owner
        self._since: float | None = None
        self._count = 0
        self._reports: dict[str, _Report] = {}

    def end(self) -> None:
        """Record that there is a log, or that there may have been one."""
        self.reported, self._since = NOT_CALLING, None
        self._reports.clear()

    def report(self, last: int | None) -> str:
        """Return this node's next report.

        `last` is the last number that it has read; None if it has read no log.
        """
        self._count += 1
        return f"{_NOTHING_READ if last is None else last} {self._count}"

    def record_reports(self, report: str, reports: Mapping[str, str], now: float) -> None:
        """Record that there is no log.

        Args:
            report: this node's, which Redis has confirmed.
            reports: those of all nodes before it, by their names.
            now: after the reply.
        """
        if self._since is None or reports.get(self._owner) != self.reported:
            self._since = now
        self.reported = report
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
