"""The signals of the process beside those that Twisted handles."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any

from twisted.internet.error import ReactorNotRunning


def stop_on_hangup(reactor: Any) -> None:
    """Stop as on SIGTERM when the terminal is closed: a bare end would leave Alpaca's slot taken for a while.

    A process that was told to ignore SIGHUP (nohup) goes on.
    """

    def stop() -> None:
        with suppress(ReactorNotRunning):  # it is stopping already
            reactor.stop()

    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(stop))
