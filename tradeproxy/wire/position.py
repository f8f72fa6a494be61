"""Where a client wants its stream to begin, in its own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class AfterId:
    """Behind the event that has this id, or at this cursor."""

    text: str


@dataclass(frozen=True, slots=True)
class FromTime:
    """With the first event whose time is this (microseconds since 1970) or later, and all behind it."""

    time: int


@dataclass(frozen=True, slots=True)
class LastEvents:
    """With the last so many events; with all there are, if there are fewer."""

    count: int


Position: TypeAlias = AfterId | FromTime | LastEvents
