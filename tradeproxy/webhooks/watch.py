"""Reports what happens to the proxy itself, from the state of an account that is looked at.

    event                  when
    ---------------------  -----------------------------------------------------------------
    upstream_down          the upstream has been down for as long as the webhook says
    upstream_up            it is up again, after that
    gap_open               a backfill is late: missed events follow later
    gap_lost               missed events cannot be found
    journal_not_durable    events are no longer on the disk before their delivery
    leader_changed         another node than before leads, and that is this one

The time is looked at once a second, and all else when it changes. A restart repeats no report. One
that waits for its turn when the process ends is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tradeproxy.config.webhooks import ProxyEvent
from tradeproxy.hub.account import Account
from tradeproxy.runtime.dates import SECOND
from tradeproxy.webhooks.message import Message, build_proxy_message
from tradeproxy.webhooks.positions import StoredPosition
from tradeproxy.wire.proxy_status import GapOutcome, describe_gap

_GAP_EVENTS = {GapOutcome.OPEN: ProxyEvent.GAP_OPEN, GapOutcome.LOST: ProxyEvent.GAP_LOST}


class AccountWatch:
    """Looks at the state of one account, for one webhook."""

    def __init__(self, account: Account, after: float, node: str, known: StoredPosition) -> None:
        """Create the watch.

        Args:
            account: whose state it is.
            after: seconds for which the upstream is down before a report.
            node: identifies this process.
            known: what the reports of earlier processes were.
        """
        self._account = account
        self._after = after
        self._node = node
        self.known = known
        """What the reports so far were. Its position in the log is not used."""

    def look(self) -> list[Message]:
        """Return what is new since the last look."""
        return [
            *self._look_at_leader(),
            *self._look_at_upstream(),
            *self._look_at_gaps(),
            *self._look_at_journal(),
        ]

    def _look_at_leader(self) -> Iterator[Message]:
        role, before = self._account.role, self.known.node
        if role is not None and role.is_writing and before != self._node:
            self.known = replace(self.known, node=self._node)
            if before:
                yield self._report(
                    ProxyEvent.LEADER_CHANGED, role.since, "another node leads now", {}
                )

    def _look_at_upstream(self) -> Iterator[Message]:
        upstream = self._account.upstream
        if upstream.streaming == (not self.known.down):
            return
        if upstream.streaming:
            self.known = replace(self.known, down=False)
            text = "Alpaca streams again"
            yield self._report(ProxyEvent.UPSTREAM_UP, upstream.since, text, {})
        elif self._account.dates.own() - upstream.since >= self._after:
            self.known = replace(self.known, down=True)
            yield self._report(
                ProxyEvent.UPSTREAM_DOWN,
                upstream.since,
                upstream.reason,
                {"reason": upstream.reason},
            )

    def _look_at_gaps(self) -> Iterator[Message]:
        for gap in self._account.stream_state.gaps:
            event, key = _GAP_EVENTS.get(gap.outcome), (gap.begin, gap.outcome.value)
            if event is None or not self._is_new_gap(*key):
                continue
            self.known = replace(self.known, gap=key)
            text = gap.reason or "missed events are not found yet"
            now = self._account.dates.own()
            yield self._report(event, now, text, describe_gap(gap))

    def _is_new_gap(self, begin: int | None, outcome: str) -> bool:
        """Whether a gap is not the last one reported, and not before it."""
        if self.known.gap is None:
            return True
        last, reported = self.known.gap
        if begin is None or last is None:
            return (begin, outcome) != (last, reported) and last is None
        return begin > last or (begin == last and outcome != reported)

    def _look_at_journal(self) -> Iterator[Message]:
        status = self._account.log.status
        if status.durable == self.known.durable:
            return
        self.known = replace(self.known, durable=status.durable)
        if not status.durable:
            yield self._report(
                ProxyEvent.JOURNAL_NOT_DURABLE,
                status.since,
                status.reason,
                {"reason": status.reason},
            )

    def _report(self, event: ProxyEvent, since: float, text: str, data: dict[str, Any]) -> Message:
        return build_proxy_message(
            self._account.name, event.value, round(since * SECOND), text, data
        )
