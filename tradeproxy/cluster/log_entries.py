"""The entries of the log in Redis as values, and their stored form: see cluster.scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, AnyStr, NamedTuple, TypeAlias

from tradeproxy.journal.upgrade import read_execution
from tradeproxy.wire.event import Event, OrderState, is_time
from tradeproxy.wire.frame import is_frame


class StatusEntry(NamedTuple):
    """An entry that is not an event: the stream state, or the start of an epoch."""

    id: bytes
    stream_state: str | None = None
    status_owner: str = ""
    """The node that published the stream state."""
    epoch_start: EpochStart | None = None


class InvalidEntry(NamedTuple):
    """An entry that the proxy did not write."""

    id: bytes
    seq: int | None
    """The number of the event that is lost; None if the id is not that of an event."""


class EventEntry(NamedTuple):
    """An event in the log."""

    id: bytes
    seq: int
    event: Event | None
    """None for a hole: the entry is not one of the proxy's."""
    epoch: str
    received: int
    """Microseconds since 1970, by the clock of the leader that wrote it."""


@dataclass(frozen=True, slots=True)
class EpochStart:
    """How an epoch began: after which number of which older epoch, and with which metadata."""

    after_epoch: str
    """Empty if there was no log before."""
    after: int
    metadata: Mapping[str, str]

    @property
    def epoch(self) -> str:
        """The epoch that began."""
        return self.metadata["epoch"]

    def encode(self) -> str:
        """Return the JSON text that an entry has."""
        metadata = dict(self.metadata)
        return json.dumps({"epoch": self.after_epoch, "after": self.after, "facts": metadata})

    @classmethod
    def parse(cls, text: bytes) -> EpochStart:
        """Return what `encode` wrote. Raises ValueError for anything else."""
        match _load(text):
            case {
                "epoch": str(epoch),
                "after": int(after),
                "facts": {"epoch": str()} as metadata,
            } if all(isinstance(value, str) for value in metadata.values()):
                return cls(epoch, after, metadata)
        raise ValueError


LogEntry: TypeAlias = StatusEntry | EventEntry | InvalidEntry


def encode_event(event: Event) -> tuple[bytes, str, bytes, str]:
    """Return what write.lua takes of an event: key, meta, payload, execution."""
    state = event.order
    order = None if state is None else [state.id, state.status, state.filled_qty, state.time]
    meta = [event.identity, event.digest.hex(), event.time, event.kind, order]
    key = encode_key(event.key)
    return key, json.dumps(meta, separators=(",", ":")), event.payload, event.execution.hex()


def encode_key(key: tuple[str, bytes]) -> bytes:
    """Return the form in which Redis has an event's key."""
    identity, digest = key
    # JSON may carry lone surrogates, which strict UTF-8 refuses.
    return digest.hex().encode() + b" " + identity.encode("utf-8", "surrogatepass")


def decode_entry(entry_id: bytes, pairs: list[bytes]) -> LogEntry:
    """Return what an entry says. Raises ValueError if its id is none of a stream's."""
    number, part = map(int, entry_id.split(b"-"))
    try:
        fields = pair_fields(pairs)
        if part == 0:
            received = read_number(fields[b"r"].decode())
            event, epoch = _decode_event(fields), fields[b"e"].decode()
            return EventEntry(entry_id, number, event, epoch, received)
        if b"b" in fields:
            return StatusEntry(entry_id, epoch_start=EpochStart.parse(fields[b"b"]))
        return StatusEntry(entry_id, fields[b"s"].decode(), fields[b"o"].decode())
    except (LookupError, TypeError, ValueError):
        return InvalidEntry(entry_id, number if part == 0 else None)


def _decode_event(fields: Mapping[bytes, bytes]) -> Event:
    identity, digest, time, kind, order = _load(fields[b"m"])
    words = [identity, digest, kind, *(order or ())[:3]]
    if not all(isinstance(word, str) and word.isascii() for word in words):
        raise ValueError  # no database takes a lone surrogate
    # An earlier version wrote times outside the calendar too.
    time = time if is_time(time) else None
    state = None
    if order is not None:
        order_id, status, filled_qty, changed = order
        state = OrderState(order_id, status, filled_qty, changed if is_time(changed) else 0)
    payload = fields[b"p"]
    if not is_frame(payload):
        raise ValueError
    # A node of a version without `x` may have written the entry.
    text = fields.get(b"x")
    execution = read_execution(payload) if text is None else bytes.fromhex(text.decode())
    return Event(payload, identity, bytes.fromhex(digest), time, state, kind, execution)


def read_number(text: str | None) -> int:
    """Return a number of the log; 0 for what the proxy did not write. Such a log is not whole."""
    return int(text) if text is not None and text.isdecimal() and len(text) < 20 else 0


def _load(text: bytes) -> Any:
    """Return what JSON says. Raises ValueError, also if it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError from error


def pair_fields(texts: Sequence[AnyStr]) -> dict[AnyStr, AnyStr]:
    """Return the fields of a reply: a name, its value, the next name. Raises ValueError."""
    return dict(zip(texts[::2], texts[1::2], strict=True))
