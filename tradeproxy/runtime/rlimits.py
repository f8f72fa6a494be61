"""What we ask of the operating system for this process."""

from __future__ import annotations

import resource
import signal
from contextlib import suppress
from typing import Any

from twisted.internet.error import ReactorNotRunning

SPARE_DESCRIPTORS = 64
"""Open files beside the clients' sockets: listeners, upstreams, logs, Python's own."""


def make_room_for(clients: int) -> str | None:
    """Raise the limit of open files, often 1,024, so that each client can have its socket.

    Returns a line for the user where the hard limit is too low for that; it is then used in full.
    """
    wanted = clients + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return None
    allowed = wanted if hard == unlimited else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # macOS refuses more than its kernel's own limit, whatever `hard` says
        allowed = soft
    if allowed == wanted:
        return None
    return f"PROXY_MAX_CLIENTS: {clients} clients need {wanted} open files, and this process gets {allowed}"


def stop_on_hangup(reactor: Any) -> None:
    """Stop as on SIGTERM when the terminal is closed: a bare end would leave Alpaca's slot taken for a while.

    A process that was told to ignore SIGHUP (nohup) goes on.
    """

    def stop() -> None:
        with suppress(ReactorNotRunning):  # it is stopping already
            reactor.stop()

    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(stop))
