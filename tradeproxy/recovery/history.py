"""The history of events, read from `GET /v2/events/trades` however often it breaks off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tradeproxy.recovery.sse_parser import SseComment, SseData, SseOversized, SseParser
from tradeproxy.upstream.rest import RestUnavailableError
from tradeproxy.wire.event import format_time
from tradeproxy.wire.frame import frame_event
from tradeproxy.wire.messages import NO_DATA, Malformed, TradeUpdate, parse_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.recovery.sse_parser import SseItem
    from tradeproxy.upstream.rest import RestClient
    from tradeproxy.wire.event import Event

PATH = "/v2/events/trades"

EVENT_TIMEOUT = 20.0
"""Seconds without an event of the time asked for; comments alone could go on for ever."""

STEP_BACK = 1_000_000
"""Microseconds before the last event from which a broken response is continued: order is not exact."""

_LOSS = b"you are reading too slowly"


class _LossError(Exception):
    """Alpaca says that it left events out."""


class HistoryReader:
    """One reading of the history, from `since` on (microseconds since 1970); it knows how far it came.

    `take` is called with each event, framed as the stream does; one near a break comes twice. `drop` is
    called with what is wrong with a line that is no event.
    """

    def __init__(
        self,
        rest: RestClient,
        clock: IReactorTime,
        since: int,
        take: Callable[[Event], None],
        drop: Callable[[str], None],
    ) -> None:
        self._rest = rest
        self._clock = clock
        self._since = since
        self._take = take
        self._drop = drop
        self._newest: int | None = None
        self._until = 0
        self._alive = 0.0

    async def read(self, until: int) -> None:
        """Read on, up to a time. A response that breaks off but brought something new is continued at once.

        That time is to be over soon: what has no event for PATIENCE seconds is given up. Raises RefusedError,
        or UnavailableError after which it can be called again.
        """
        while True:
            before = self._since
            try:
                await self._read_once(until)
                return
            except _LossError:
                trouble = RestUnavailableError("Alpaca leaves events out")
            except RestUnavailableError as error:
                trouble = error
            if self._newest is not None:
                self._since = max(self._since, min(self._newest, until) - STEP_BACK)
            if self._since <= before:
                raise trouble

    async def _read_once(self, until: int) -> None:
        parser = SseParser()
        self._until, self._alive = until, math.inf

        def take(chunk: bytes) -> None:
            now = self._clock.seconds()
            self._alive = min(self._alive, now)  # from the first chunk on
            self._receive(parser.feed(chunk))
            if now - self._alive > EVENT_TIMEOUT:
                raise RestUnavailableError("a history that does not end")

        span = {"since": format_time(self._since), "until": format_time(until)}
        await self._rest.stream(PATH, span, take)
        self._receive(parser.end())

    def _receive(self, items: Iterable[SseItem]) -> None:
        for item in items:
            match item:
                case SseData(lines):
                    self._receive_data(lines)
                case SseComment(text) if text.startswith(_LOSS):
                    raise _LossError
                case SseOversized():
                    self._drop("an event of more than 1 MiB")

    def _receive_data(self, lines: tuple[bytes, ...]) -> None:
        # Alpaca writes an event on one line; lines that make no event together may each be one, where the
        # blank line between them is missing.
        if len(lines) > 1 and not isinstance(
            parse_server(frame_event(b"\n".join(lines))), TradeUpdate
        ):
            for line in lines:
                self._receive_data((line,))
            return
        match parse_server(frame_event(b"\n".join(lines))):
            case TradeUpdate(event):
                if event.time is not None:
                    self._newest = max(event.time, self._newest or 0)
                    if event.time <= self._until:
                        self._alive = self._clock.seconds()
                self._take(event)
            case Malformed(problem):
                self._drop(problem)
            case _:
                self._drop(NO_DATA.problem)
