"""The bookmark of a journal: how far the log has come, for a new one if the journal is lost.

It is a small file beside the journal, with the state that Metadata.encode_state returns:

    journal    bookmark         the new log
    ---------  ---------------  -------------------------------------------------------------
    usable     any              none is begun; the journal has the newer state
    lost       readable         continues from the bookmark: Alpaca is asked for what follows
    damaged    missing          begins with a gap whose beginning is unknown
    lost       damaged          the same
    missing    missing          a first start: Alpaca is asked for nothing
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

CHECK_EVERY = 1.0
"""Seconds between two looks at the state before the first write: a new log soon has its bookmark.
"""

WRITE_EVERY = 10.0
"""Seconds between two looks afterwards. If a crash and the loss of the journal come together, the
events since the last write are delivered again."""

MAX_SIZE = 1024 * 1024
"""Bytes. A larger file is none of ours."""


class Bookmark:
    """The file of one account. Nothing is written while an event is on its way."""

    def __init__(
        self,
        path: Path,
        clock: IReactorTime,
        state: Callable[[], Mapping[str, str]],
        *,
        is_ours: Callable[[], bool] = lambda: True,
        full_sync: bool,
    ) -> None:
        """Open nothing yet.

        Args:
            path: the file; a temporary one is beside it while it is replaced.
            clock: schedules the writes.
            state: returns what is written.
            full_sync: whether the file is synced to the disk before it replaces the old one.
        """
        self._path = path
        self._clock = clock
        self._state = state
        self._is_ours = is_ours
        self._full_sync = full_sync
        self._written: Mapping[str, str] | None = None
        self._timer: IDelayedCall | None = None

    def read(self) -> dict[str, str] | None:
        """Return the saved state; None if there is no file. A damaged file has an empty state.

        Raises OSError.
        """
        try:
            with self._path.open("rb") as file:
                document: Any = json.loads(file.read(MAX_SIZE))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            return {}
        match document:
            case {"base_url": str()} if all(map(_is_text, (*document, *document.values()))):
                return dict(document)
        return {}

    def start(self) -> None:
        """Write now, and then regularly, whenever the state has changed."""
        # The status of the journal reports a disk that fails; the next write may succeed.
        with suppress(OSError):
            self.write()
        every = CHECK_EVERY if self._written is None else WRITE_EVERY
        self._timer = self._clock.callLater(every, self.start)

    def stop(self) -> None:
        """Write a last time. A second call has no effect."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            with suppress(OSError):
                self.write()

    def write(self) -> None:
        """Replace the file, unless it has the present state already. Raises OSError."""
        state = self._state()
        if (
            len(state) == 1
            or not self._is_ours()
            or (state == self._written and self._path.exists())
        ):
            return  # with the base URL alone, nothing is known yet
        temporary = self._path.with_name(self._path.name + ".new")
        with suppress(FileNotFoundError):
            temporary.unlink()  # a crash or a full disk has left it
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # a umask such as 0777 removes the owner's permissions
            file.write(json.dumps(state).encode())
            file.flush()
            if self._full_sync:
                os.fsync(descriptor)
        temporary.replace(self._path)
        self._written = dict(state)


def _is_text(value: object) -> bool:
    """Whether a value can be saved: JSON may have half a surrogate pair, which SQLite refuses."""
    return isinstance(value, str) and value.isprintable()
