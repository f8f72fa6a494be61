"""One account: the only way in for its events, its broadcaster as the way out, and how its upstream is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.logger import Logger

from tradeproxy.hub.broadcaster import Broadcaster

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """Whether Alpaca's stream is up, why not, and since when (Unix time in seconds)."""

    streaming: bool
    reason: str
    since: float


class Account:
    """The events of one Alpaca account, from one upstream to any number of subscribers.

    Events that are published in one turn of the reactor make one burst. It is handed on at the end of that
    turn (callLater(0) runs once the turn's reads are done), so that a lone event waits for nothing and a
    hundred at once cost each subscriber one delivery.
    """

    _log = Logger()

    def __init__(self, name: str, clock: IReactorTime) -> None:
        self.name = name
        self.broadcaster = Broadcaster()
        self.dropped: Counter[str] = Counter()
        self._clock = clock
        self._pending: list[bytes] = []
        self.upstream = UpstreamStatus(streaming=False, reason="not connected yet", since=clock.seconds())

    def publish(self, payload: bytes) -> None:
        """Take in one event, a frame's payload exactly as it was received."""
        if not self._pending:
            self._clock.callLater(0, self._flush)
        self._pending.append(payload)

    def drop(self, problem: str) -> None:
        """Count a frame that is not handed on; the first of each kind is logged.

        `problem` is one of a few fixed phrases.
        """
        self.dropped[problem] += 1
        if self.dropped[problem] == 1:
            self._log.warn(
                "{account}: dropped a frame from Alpaca: {problem}; from now on these are only counted",
                account=self.name,
                problem=problem,
            )

    def upstream_is_up(self) -> None:
        """Note that Alpaca streams this account's events from now on."""
        self.upstream = UpstreamStatus(streaming=True, reason="streaming", since=self._clock.seconds())

    def upstream_is_down(self, reason: str) -> None:
        """Note that Alpaca's stream is down; `since` stays where the outage began."""
        since = self._clock.seconds() if self.upstream.streaming else self.upstream.since
        self.upstream = UpstreamStatus(streaming=False, reason=reason, since=since)

    def _flush(self) -> None:
        burst, self._pending = tuple(self._pending), []
        self.broadcaster.publish(burst)
