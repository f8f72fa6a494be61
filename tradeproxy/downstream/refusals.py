"""Who was turned away or let go, counted by reason, and told to the log seldom."""

from __future__ import annotations

from collections import Counter

from twisted.logger import Logger


class Refusals:
    """The 1st, 10th, 100th … client that has to go for a reason is logged: a page may try all day."""

    _log = Logger()

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def note(self, peer: str, reason: str) -> None:
        """Count one more; `peer` is its address, `reason` one of a few fixed phrases."""
        self.counts[reason] += 1
        count = self.counts[reason]
        if str(count).strip("0") == "1":
            self._log.info("let {peer} go: {reason} ({count} so far)", peer=peer, reason=reason, count=count)
