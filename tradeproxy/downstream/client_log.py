"""What the operator sees of a client, and the log of clients.

A client has a line when it connects and when it leaves, as far as the limit allows:

    client                                              line                        limit
    --------------------------------------------------  --------------------------  ---------------
    its auth message is accepted, or its SSE begin      `client connected`          MAX_LINES
    it leaves after that                                `client left`               MAX_LINES
    it leaves before that                               `client left before auth`   MAX_ANONYMOUS

The limits are apart, so that strangers without a token cannot use up the lines of clients. The
second one is for each reason, so that a loop of one program does not hide another program.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request

from tradeproxy.query.stream import StreamQuery
from tradeproxy.runtime.dates import Dates
from tradeproxy.runtime.peer import format_peer
from tradeproxy.wire.plural import plural_ending
from tradeproxy.wire.position import AfterId, LastEvents, Position

MAX_USER_AGENT = 80
"""Characters. Browsers send more; the start and the end are kept because they differ most."""

MAX_LINES = 15
"""Lines about clients in a second."""

MAX_ANONYMOUS = 5
"""Lines in ANONYMOUS_PERIOD, for each reason, about clients that left before their auth message was
accepted."""

ANONYMOUS_PERIOD = 60.0
"""Seconds. A program with a wrong token may reconnect in a loop all day."""

MAX_LOGGED_AGENT = 64
"""Characters of a User-Agent in the log."""

DROPPED = "dropped by the proxy"
LOST = "the connection was lost"


class ClientInfo(NamedTuple):
    """The properties of a client that never change."""

    user_agent: str
    dialect: str
    since: float
    """When the client connected (Unix time)."""
    address: str
    """As `format_peer` returns it."""
    path: str
    """The path of its request, without the query: a position in the log is none of others."""
    begin: str
    """Where its stream begins, in one phrase."""
    connected_at: float
    """When the client connected, by the clock that measures intervals."""
    host: str
    """Of its address; empty for a UNIX socket."""
    name: str = ""
    """The name that the client gave itself: printable, and of bounded length; or empty."""
    is_dashboard: bool = False
    """Whether it is a connection of the dashboard, which is not counted as a client."""

    @property
    def label(self) -> str:
        """The address, with the name that the client gave itself in quotes, for the log."""
        return f"{self.address} {put_in_quotes(self.name)}" if self.name else self.address


def read_client_info(
    request: Request, dialect: str, query: StreamQuery, dates: Dates, *, is_dashboard: bool = False
) -> ClientInfo:
    """Return what the operator sees of a client.

    Args:
        request: the client's request, whose path names a stream.
        dialect: the protocol, as in the label of the metrics.
        query: what the request asks for.
        dates: the time by this machine's clock, and by the clock that measures intervals.
        is_dashboard: whether it is a connection of the dashboard.
    """
    path = re.sub(rb"/+", b"/", request.path).rstrip(b"/").decode("ascii", "replace")
    return ClientInfo(
        user_agent(request.getHeader(b"user-agent")),
        dialect,
        dates.own(),
        format_peer(request.getClientAddress()),
        sys.intern(path),
        _describe_begin(query.position),
        dates.clock(),
        getattr(request.getClientAddress(), "host", ""),
        query.client_name,
        is_dashboard,
    )


def user_agent(header: bytes | None) -> str:
    """Return a User-Agent header as printable text of at most MAX_USER_AGENT characters.

    Equal values are one string in memory: thousands of clients may send the same header.
    """
    text = (header or b"").decode(errors="replace")
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    return sys.intern(cut_middle(text, MAX_USER_AGENT))


def cut_middle(text: str, longest: int) -> str:
    """Return the start and the end of a text that is longer than `longest` characters (even)."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"


def put_in_quotes(text: str) -> str:
    """Return a client's printable text in quotes. It cannot imitate another part of a log line."""
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _describe_begin(position: Position | None) -> str:
    # The value of an id or of a time came in the query, and is left out.
    match position:
        case None:
            return "begins live"
        case AfterId():
            return "resumes after an id"
        case LastEvents(count):
            return f"replays the last {count}"
        case _:
            return "resumes at a time"


class LineLimit:
    """Admits some lines in any period, and reports how many more there would have been."""

    def __init__(
        self,
        lines: int,
        clock: IReactorTime,
        report: Callable[[Counter[str]], None],
        period: float = 1.0,
    ) -> None:
        """Create a limit.

        Args:
            lines: how many lines may be written in any period.
            clock: the reactor.
            report: gets the number of the lines that were left out, by kind. It is called at most
                once in a period, and only if there are some.
            period: in seconds.
        """
        self._lines = lines
        self._written: deque[float] = deque(maxlen=lines)
        self._clock = clock
        self._report = report
        self._period = period
        self._left_out: Counter[str] = Counter()
        self._timer: IDelayedCall | None = None

    def admit(self, kind: str) -> bool:
        """Return whether a line may be written now; otherwise count it by its kind."""
        now = self._clock.seconds()
        written = self._written
        if len(written) < self._lines or now - written[0] >= self._period:
            written.append(now)
            return True
        self._left_out[kind] += 1
        if self._timer is None:
            self._timer = self._clock.callLater(self._period, self.flush)
        return False

    def flush(self) -> None:
        """Log now how many lines were left out."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        left_out, self._left_out = self._left_out, Counter()
        if left_out:
            self._report(left_out)


class ClientLog:
    """Writes the lines about clients. They have no query, no header but one, and no message."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._clients = LineLimit(MAX_LINES, clock, self._report_clients)
        self._anonymous: dict[str, LineLimit] = {}

    def connected(self, info: ClientInfo) -> None:
        """Log a client that gets a stream from now on."""
        if self._clients.admit("connected"):
            self._log.info(
                "client connected: {address} {path} {user_agent}, {begin}",
                address=info.label,
                path=info.path,
                user_agent=_quote_agent(info),
                begin=info.begin,
            )

    def left(
        self, info: ClientInfo, events: int | None, reason: str, *, filtered: bool = False
    ) -> None:
        """Log the end of a client's connection.

        Args:
            info: the client.
            events: how many events of the log its stream has passed; None if its auth message
                was not accepted.
            reason: why it left, without anything that it sent.
            filtered: whether it got only some of those events.
        """
        if not (self._admit_anonymous(reason) if events is None else self._clients.admit("left")):
            return
        common = {
            "address": info.label,
            "path": info.path,
            "user_agent": _quote_agent(info),
            "seconds": self._clock.seconds() - info.connected_at,
            "reason": reason,
        }
        if events is None:
            self._log.info(
                "client left before auth: {address} {path} {user_agent} after {seconds:.1f} s:"
                " {reason}",
                **common,
            )
        else:
            self._log.info(
                "client left: {address} {path} {user_agent} after {seconds:.1f} s and"
                " {events} event{s}{of}: {reason}",
                events=events,
                s=plural_ending(events),
                of=" before its filter" if filtered else "",
                **common,
            )

    def flush(self) -> None:
        """Log now how many lines were left out."""
        self._clients.flush()
        for limit in self._anonymous.values():
            limit.flush()

    def _admit_anonymous(self, reason: str) -> bool:
        # A client chooses the code with which it closes: without it, the kinds are a few phrases.
        kind = reason.rstrip("0123456789").rstrip()
        limit = self._anonymous.get(kind)
        if limit is None:
            limit = LineLimit(MAX_ANONYMOUS, self._clock, self._report_anonymous, ANONYMOUS_PERIOD)
            self._anonymous[kind] = limit
        return limit.admit(kind)

    def _report_clients(self, left_out: Counter[str]) -> None:
        self._log.info(
            "no line for {connected} more client{s} that connected and {left} that left",
            connected=left_out["connected"],
            s=plural_ending(left_out["connected"]),
            left=left_out["left"],
        )

    def _report_anonymous(self, left_out: Counter[str]) -> None:
        for reason, left in left_out.items():
            self._log.info(
                "no line for {left} more client{s} that left before auth: {reason}",
                left=left,
                s=plural_ending(left),
                reason=reason,
            )


def _quote_agent(info: ClientInfo) -> str:
    return put_in_quotes(cut_middle(info.user_agent, MAX_LOGGED_AGENT))
