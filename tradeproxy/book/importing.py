"""The import of fills that are older than the log, as others see it."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from msgspec import Struct


class ImportState(Enum):
    """How far an import is."""

    IDLE = "idle"
    """It was not started since the proxy was."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class ImportProgress(Struct, frozen=True):
    """The progress of an import since the proxy was started."""

    state: ImportState
    orders: int
    """Orders that were read."""
    fills: int
    """Fills that were read."""
    new: int
    """Those of them that the book did not have."""
    fraction: float
    """From 0 to 1, by the times of what was read."""
    reason: str = ""
    """Why it failed."""


class Importer(Protocol):
    """Imports the fills of one account. One import runs at a time."""

    @property
    def progress(self) -> ImportProgress:
        """How far it is."""

    def start(self) -> None:
        """Begin an import, or continue one that was interrupted. While one runs, do nothing."""
