"""Where a client wants its stream to begin, in its own words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32


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


_FORM = re.compile(
    r"(?P<account>[a-z0-9_]{1,64})\.(?P<epoch>[0-9a-f]{16})\.(?P<seq>[0-9]{1,18})\.(?P<check>[0-9a-f]{8})"
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place just behind one event in one account's log; `seq` 0 is before the first.

    `check` is that event's checksum: a log that lost its end, as a power cut can do to one that is not
    synced, counts on with the same numbers, and must not take another event for the one that was meant.
    """

    account: str
    epoch: str
    seq: int
    check: int

    def __str__(self) -> str:
        return f"{self.account}.{self.epoch}.{self.seq}.{self.check:08x}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Read a cursor; None for what does not have its form, such as an event's id."""
        match = _FORM.fullmatch(text)
        if match is None:
            return None
        return cls(match["account"], match["epoch"], int(match["seq"]), int(match["check"], 16))


def compute_check(payload: bytes | None) -> int:
    """Return the checksum of an event's frame; a hole in the log has 0."""
    return 0 if payload is None else crc32(payload)
