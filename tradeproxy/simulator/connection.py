"""What the simulator needs of a client's connection to the stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeAlias

from tradeproxy.simulator.faults import FaultKind

Frame: TypeAlias = tuple[bytes, bool]
"""A payload, and whether its frame is binary."""

CloseFrame: TypeAlias = tuple[int | None, str | None]
"""The code and reason of a client's close frame; either may be absent."""


class StreamConnection(Protocol):
    """A client's connection to the stream; stream.StreamProtocol implements it."""

    close_frame: CloseFrame | None

    @property
    def listening(self) -> bool:
        """Whether the client receives events."""

    def is_quiet(self, kind: FaultKind) -> bool:
        """Whether a fault suppresses everything (SILENCE) or the events (MUTE)."""

    def send_frames(self, frames: Iterable[Frame]) -> None:
        """Send frames in one write."""

    def quiet(self, kind: FaultKind, seconds: float | None) -> None:
        """Begin SILENCE or MUTE for `seconds`; forever if None."""

    def close(self, code: int) -> None:
        """Start the closing handshake."""

    def drop(self, abort: bool) -> None:
        """Close TCP without a close frame: immediately (RST), or after pending writes (FIN)."""
