"""The log of clients: a line when one connects and when it leaves, as far as the limit allows.

    client                                              line                        limit
    --------------------------------------------------  --------------------------  ---------------
    its auth message is accepted, or its SSE begin      `client connected`          MAX_LINES
    it leaves after that                                `client left`               MAX_LINES
    it leaves before that                               `client left before auth`   MAX_ANONYMOUS

The limits are apart, so that strangers without a token cannot use up the lines of clients. The
second one is for each reason, so that a loop of one program does not hide another program.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tradeproxy.downstream.client_info import ClientInfo, cut_middle, put_in_quotes
from tradeproxy.runtime.line_limit import LineLimit
from tradeproxy.wire.plural import plural_ending

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


class WebSocketEnd(Protocol):
    """What Autobahn records of the closing handshake."""

    closedByMe: bool

    @property
    def localCloseCode(self) -> int | None:
        """The code that the proxy sent."""

    @property
    def remoteCloseCode(self) -> int | None:
        """The code that the client sent."""


def describe_end(connection: WebSocketEnd, otherwise: str) -> str:
    """Return who closed a WebSocket, and with which code; `otherwise` without a close frame.

    A client may send a text with its code, which is left out.
    """
    if connection.closedByMe:
        return f"closed with {connection.localCloseCode}"
    if connection.remoteCloseCode is not None:
        return f"the client closed with {connection.remoteCloseCode}"
    return otherwise


def _quote_agent(info: ClientInfo) -> str:
    return put_in_quotes(cut_middle(info.user_agent, MAX_LOGGED_AGENT))
