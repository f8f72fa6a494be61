"""Positions: where a client's stream starts, and the cursor that identifies a position."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32


@dataclass(frozen=True, slots=True)
class AfterId:
    """After the event with this id, or at this cursor."""

    text: str


@dataclass(frozen=True, slots=True)
class FromTime:
    """From the first event with this time (microseconds since 1970) or a later one."""

    time: int


@dataclass(frozen=True, slots=True)
class AfterTime:
    """After the first event with this time (microseconds since 1970).

    The client asked for a time less than a microsecond later, as Alpaca's Go SDK does: it resumes
    one nanosecond after its last event. Without such an event, from the first later one.
    """

    time: int


@dataclass(frozen=True, slots=True)
class LastEvents:
    """From the last `count` events; from the oldest stored event if there are fewer."""

    count: int


Position: TypeAlias = AfterId | FromTime | AfterTime | LastEvents


_FORMAT = re.compile(
    r"(?P<account>[a-z0-9_]{1,64})\.(?P<epoch>[0-9a-f]{16})"
    r"\.(?P<seq>[0-9]{1,18})\.(?P<check>[0-9a-f]{8})"
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The position after one event in one account's log; `seq` 0 is before the first event.

    `check` is the event's checksum. A power cut can truncate a log that is not synced, and the
    log then reuses sequence numbers. The checksum detects that `seq` now names a different event.
    """

    account: str
    epoch: str
    seq: int
    check: int

    def __str__(self) -> str:
        return f"{self.account}.{self.epoch}.{self.seq}.{self.check:08x}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Parse a cursor; None if the text does not have its format, such as an event's id."""
        match = _FORMAT.fullmatch(text)
        if match is None:
            return None
        return cls(match["account"], match["epoch"], int(match["seq"]), int(match["check"], 16))


def compute_check(payload: bytes | None) -> int:
    """Return the checksum of an event's frame; 0 for a sequence number without an event."""
    return 0 if payload is None else crc32(payload)
