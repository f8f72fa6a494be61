"""The properties of a client that never change, read from its request."""

from __future__ import annotations

import re
import sys
from typing import NamedTuple

from twisted.web.server import Request

from tradeproxy.runtime.dates import Dates
from tradeproxy.runtime.peer import format_peer
from tradeproxy.wire.position import AfterId, LastEvents, Position

MAX_USER_AGENT = 80
"""Characters. Browsers send more; the start and the end are kept because they differ most."""


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
    request: Request,
    dialect: str,
    position: Position | None,
    dates: Dates,
    *,
    name: str = "",
    is_dashboard: bool = False,
) -> ClientInfo:
    """Return what the operator sees of a client.

    Args:
        request: the client's request, whose path names a stream.
        dialect: the protocol, as in the label of the metrics.
        position: where its stream begins; None means with the next event.
        dates: the time by this machine's clock, and by the clock that measures intervals.
        name: the name that the client gave itself.
        is_dashboard: whether it is a connection of the dashboard.
    """
    path = re.sub(rb"/+", b"/", request.path).rstrip(b"/").decode("ascii", "replace")
    return ClientInfo(
        user_agent(request.getHeader(b"user-agent")),
        dialect,
        dates.own(),
        format_peer(request.getClientAddress()),
        sys.intern(path),
        _describe_begin(position),
        dates.clock(),
        getattr(request.getClientAddress(), "host", ""),
        name,
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
