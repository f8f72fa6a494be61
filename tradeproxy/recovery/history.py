"""A reader of Alpaca's event history, `GET /v2/events/trades`, that continues a broken response."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tradeproxy.recovery.sse_parser import (
    SseComment,
    SseData,
    SseForeign,
    SseItem,
    SseOversized,
    SseParser,
)
from tradeproxy.upstream.rest import RestClient, RestUnavailableError
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.frame import frame_event
from tradeproxy.wire.messages import NO_DATA, Malformed, TradeUpdate, parse_server

PATH = "/v2/events/trades"

PATIENCE = 20.0
"""Seconds without an event of the requested time. Comments alone could keep a response open."""

STEP_BACK = 1_000_000
"""Microseconds: a broken response is continued this long before its newest event.

Alpaca does not send events in exact order of time.
"""

_LOSS = b"you are reading too slowly"


class _LossError(Exception):
    """Alpaca reports in a comment that it omitted events."""


class HistoryReader:
    """Reads the history from one time on, and keeps its progress between calls of `read`.

    An event near the point where a response broke off is read twice.
    """

    def __init__(
        self,
        rest: RestClient,
        clock: IReactorTime,
        since: int,
        take: Callable[[Event], None],
        drop: Callable[[str], None],
    ) -> None:
        """Create the reader; `read` sends the requests.

        Args:
            rest: the account's REST client.
            clock: measures the time without an event.
            since: the start of the history (microseconds since 1970).
            take: gets each event, framed as in the stream.
            drop: gets a fixed phrase for each line that is not an event.
        """
        self._rest = rest
        self._clock = clock
        self._since = since
        self._take = take
        self._drop = drop
        self.has_oversized = False
        """Whether an event was too large to be read."""
        self._newest = since
        self._until = 0
        self._last_progress = 0.0
        self._watchdog: IDelayedCall | None = None

    async def read(self, until: int, patience: float = PATIENCE) -> None:
        """Read on, up to `until` (microseconds since 1970).

        A response that breaks off after new events is continued at once. `until` must be close to
        now: without a matching event for `patience` seconds the request fails. Raises
        RestRefusedError, or RestUnavailableError; after the latter this can be called again.
        """
        while True:
            before = self._since
            try:
                await self._read_once(until, patience)
                return
            except _LossError:
                error = RestUnavailableError("Alpaca leaves events out")
            except RestUnavailableError as unavailable:
                error = unavailable
            self._since = max(self._since, self._newest - STEP_BACK)
            if self._since <= before:  # no progress: an immediate retry would loop
                raise error

    async def _read_once(self, until: int, patience: float) -> None:
        parser = SseParser()
        self._until, self._last_progress = until, self._clock.seconds()
        query = {"since": format_time(self._since), "until": format_time(until)}
        reading = Deferred.fromCoroutine(
            self._rest.stream(PATH, query, lambda chunk: self._receive(parser.feed(chunk)))
        )
        self._watch(reading, patience)
        try:
            await reading
        except CancelledError:
            if self._watchdog is not None:  # the caller was cancelled
                raise
            raise RestUnavailableError("no event of the history in time") from None
        finally:
            if self._watchdog is not None:
                self._watchdog.cancel()
        self._receive(parser.end())

    def _watch(self, reading: Deferred[None], patience: float) -> None:
        """Cancel `reading` after `patience` seconds without an event of the requested time."""
        remaining = patience - (self._clock.seconds() - self._last_progress)
        if remaining > 0:
            self._watchdog = self._clock.callLater(remaining, self._watch, reading, patience)
        else:
            self._watchdog = None
            reading.cancel()

    def _receive(self, items: Iterable[SseItem]) -> None:
        for item in items:
            match item:
                case SseData(lines):
                    self._receive_data(lines)
                case SseComment(text) if text.startswith(_LOSS):
                    raise _LossError
                case SseForeign():
                    raise RestUnavailableError("an answer that is not an event stream")
                case SseOversized():
                    self.has_oversized = True
                    self._drop("an event of more than 1 MiB or 1000 lines")

    def _receive_data(self, lines: tuple[bytes, ...]) -> None:
        message = parse_server(frame_event(b"\n".join(lines)))
        if len(lines) > 1 and not isinstance(message, TradeUpdate):
            # Alpaca writes an event on one line. Lines that are not one event together may be one
            # event each, without the blank line between them.
            for line in lines:
                self._receive_data((line,))
            return
        match message:
            case TradeUpdate(event):
                # A later time is wrong. To continue from there would skip the events before it.
                if event.time is not None and event.time <= self._until:
                    self._newest = max(event.time, self._newest)
                    self._last_progress = self._clock.seconds()
                self._take(event)
            case Malformed(problem):
                self._drop(problem)
            case _:
                self._drop(NO_DATA.problem)
