"""Counts the calls of Python functions in a process, in the 8 bytes of the file CALLS_FILE.

Python imports this module at its start if its directory is in PYTHONPATH. A coroutine or generator
that continues counts as a call. A call of a C function does not count.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

with open(os.environ["CALLS_FILE"], "r+b") as _file:
    _calls = memoryview(mmap.mmap(_file.fileno(), 8)).cast("Q")
_numbers = count(1)


def _profile(frame: FrameType, event: str, argument: Any) -> None:
    if event == "call":
        _calls[0] = next(_numbers)


threading.setprofile(_profile)
sys.setprofile(_profile)
