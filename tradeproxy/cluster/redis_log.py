"""One account's log in Redis, as values: what can be asked of it and done to it, each in one step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tradeproxy.cluster.redis_client import NoScriptError
from tradeproxy.cluster.scripts import (
    BEGIN_EPOCH,
    KEYS,
    LEASE,
    READ_STATE,
    RELEASE,
    TRIM,
    WRITE,
    Script,
)
from tradeproxy.wire.event import Event, OrderState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.internet.defer import Deferred

BLOCK = 2000
"""Milliseconds that a read waits for something new."""

REPLY_SLACK = 2.0
"""Seconds more that it may take."""

MAX_ENTRIES = 500
"""Entries that one read returns at most."""


class CommandSender(Protocol):
    """A cluster.link.Link, which see."""

    def call(self, *command: str | bytes | int, timeout: float = ...) -> Deferred[Any]:
        """Give Redis a command."""


@dataclass(frozen=True, slots=True)
class LeaseState:
    """Who has the lease, and how far the log is."""

    owner: str | None
    token: str | None
    previous: str | None
    """Who had it before; "" if nobody had."""
    epoch: str | None
    """None while there is no log."""
    last: int
    remaining: float = 0.0
    """Seconds until the lease runs out."""
    is_released: bool = False
    """Whether who had it last has given it back, and it is free."""


class WriteResult(NamedTuple):
    """What became of events: the newest number in the log, and how many had been there before."""

    last: int
    dropped: int


class StatusEntry(NamedTuple):
    """An entry that is no event: the stream's standing, or the beginning of an epoch."""

    id: bytes
    stream_state: str | None = None
    status_owner: str = ""
    """Which node told the standing."""
    epoch_start: EpochStart | None = None


class EventEntry(NamedTuple):
    """An event in the log."""

    id: bytes
    seq: int
    event: Event
    epoch: str
    received: int
    """By the clock of the node that led (microseconds since 1970)."""


@dataclass(frozen=True, slots=True)
class EpochStart:
    """How an epoch began: after which number of which other epoch, and with which facts."""

    after_epoch: str
    after: int
    metadata: Mapping[str, str]

    @property
    def epoch(self) -> str:
        """The one that began."""
        return self.metadata["epoch"]

    def encode(self) -> str:
        """Write it as an entry has it."""
        return json.dumps(
            {"epoch": self.after_epoch, "after": self.after, "facts": dict(self.metadata)}
        )

    @classmethod
    def parse(cls, text: bytes) -> EpochStart:
        """Read one."""
        fields = json.loads(text)
        return cls(fields["epoch"], fields["after"], fields["facts"])


@dataclass(frozen=True, slots=True)
class LogState:
    """What the log is at one moment."""

    metadata: Mapping[str, str]
    """Empty while there is no log."""
    last: int
    stream_state: str | None
    """What was last said of the stream."""
    status_owner: str
    """By which node."""
    epoch_start: EpochStart | None
    payload: bytes | None
    """Of the event that was asked for; None if it is not in the log."""


class RedisLog:
    """The log of one account. What it returns may fail with AwayError; a write that is fenced off is None."""

    def __init__(self, account: str, owner: str, link: CommandSender) -> None:
        """`owner` is this node's name, unique to the process."""
        self.owner = owner
        self._link = link
        self._tokens = count(1)  # with the owner's name, unique for ever, whatever Redis remembers
        self._keys = [f"tradeproxy:{{{account}}}:{key}" for key in KEYS]
        self._stream = self._keys[KEYS.index("stream")]

    # The lease.

    async def query_lease(self, milliseconds: int, *, wanted: bool) -> LeaseState:
        """Take the lease if it is wanted and free; renew it if it is wanted and ours; see who has it."""
        answer = await self._run(LEASE, self.owner, next(self._tokens), milliseconds, int(wanted))
        *words, rest, released = (None if each is None else each.decode() for each in answer)
        owner, token, previous, epoch, last = words
        return LeaseState(
            owner,
            token,
            previous,
            epoch,
            int(last or 0),
            int(rest or 0) / 1000,
            released is not None,
        )

    async def release(self, token: str) -> None:
        """Let another node have the lease; harmless if this one has it no more."""
        await self._run(RELEASE, self.owner, token)

    # What only the leader may do.

    async def write(
        self,
        token: str,
        now: int,
        events: Sequence[Event],
        facts: Mapping[str, str | None],
        standing: str,
        read: int = 0,
    ) -> WriteResult | None:
        """Add the events that are new, save facts (None removes one), and say `standing` unless it is "".

        Nothing is done to a log whose last number is before `read`: it has lost its end.
        """
        words = _flatten(facts)
        told = [word for event in events for word in _encode(event)]
        answer = await self._run(
            WRITE, self.owner, token, now, read, standing, len(words), *words, *told
        )
        return None if answer is None else WriteResult(int(answer[0]), answer[1])

    async def begin(self, token: str, now: int, last: int, begun: EpochStart) -> bool:
        """Begin another epoch; what is in the log is dropped. Return whether that was allowed."""
        words = _flatten(begun.metadata)
        return (
            await self._run(BEGIN_EPOCH, self.owner, token, last, now, begun.encode(), *words)
            is not None
        )

    async def trim(self, token: str, through: int, facts: Mapping[str, str | None]) -> None:
        """Forget the events up to a number."""
        await self._run(TRIM, self.owner, token, through, through + 1, *_flatten(facts))

    # What every node does.

    async def read_state(self, seq: int) -> LogState:
        """Return what the log is, with its event `seq`."""
        facts, [last, standing, teller, begun], entries = await self._run(READ_STATE, seq)
        return LogState(
            {
                key.decode(): value.decode()
                for key, value in zip(facts[::2], facts[1::2], strict=True)
            },
            int(last or 0),
            None if standing is None else standing.decode(),
            "" if teller is None else teller.decode(),
            None if begun is None else EpochStart.parse(begun),
            dict(zip(entries[0][1][::2], entries[0][1][1::2], strict=True)).get(b"p")
            if entries
            else None,
        )

    async def read_entries(self, after: bytes) -> list[StatusEntry | EventEntry]:
        """Return what comes behind an entry's id; nothing if nothing comes within BLOCK."""
        command = ("XREAD", "COUNT", MAX_ENTRIES, "BLOCK", BLOCK, "STREAMS", self._stream, after)
        answer = await self._link.call(*command, timeout=BLOCK / 1000 + REPLY_SLACK)
        return [_decode(*entry) for entry in answer[0][1]] if answer else []

    async def _run(self, script: Script, *arguments: str | bytes | int) -> Any:
        rest = (len(self._keys), *self._keys, *arguments)
        try:
            return await self._link.call("EVALSHA", script.sha, *rest)
        except NoScriptError:
            return await self._link.call("EVAL", script.source, *rest)


def _flatten(facts: Mapping[str, str | None]) -> list[str]:
    return [word for key, value in facts.items() for word in (key, value or "")]


def _encode(event: Event) -> tuple[bytes, str, bytes]:
    state = event.order
    order = None if state is None else [state.id, state.status, state.filled_qty, state.time]
    meta = [event.identity, event.digest.hex(), event.time, event.kind, order]
    identity = event.digest.hex().encode() + b" " + event.identity.encode("utf-8", "surrogatepass")
    return identity, json.dumps(meta, separators=(",", ":")), event.payload


def _decode(id: bytes, words: list[bytes]) -> StatusEntry | EventEntry:
    fields = dict(zip(words[::2], words[1::2], strict=True))
    if b"b" in fields:
        return StatusEntry(id, epoch_start=EpochStart.parse(fields[b"b"]))
    if b"s" in fields:
        return StatusEntry(id, fields[b"s"].decode(), fields[b"o"].decode())
    identity, digest, time, kind, order = json.loads(fields[b"m"])
    state = None if order is None else OrderState(*order)
    event = Event(fields[b"p"], identity, bytes.fromhex(digest), time, state, kind)
    return EventEntry(
        id, int(id.partition(b"-")[0]), event, fields[b"e"].decode(), int(fields[b"r"])
    )
