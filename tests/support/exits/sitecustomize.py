"""Writes the data of coverage before a process kills itself.

After SIGTERM or SIGINT, Twisted kills its own process with the same signal, without `atexit`.
Python imports this file at its start, if its directory is in PYTHONPATH.
"""

from __future__ import annotations

import os

from coverage import Coverage

_kill = os.kill


def save_and_kill(process: int, number: int) -> None:
    """Send a signal. If it is for this process, write the data first."""
    if process == os.getpid() and (running := Coverage.current()) is not None:
        running.save()
    _kill(process, number)


os.kill = save_and_kill
