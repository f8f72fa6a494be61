"""One account's log in Redis, as values: each method is one atomic step in Redis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred

from tradeproxy.cluster import scripts
from tradeproxy.cluster.log_entries import (
    EpochStart,
    LogEntry,
    decode_entry,
    encode_event,
    pair_fields,
    read_number,
)
from tradeproxy.cluster.redis_client import NoScriptError, RedisUnavailableError, ReplyTooLargeError
from tradeproxy.journal.metadata import ASSIGNMENTS, REMEMBERED, TRIM_KEYS, Metadata
from tradeproxy.wire.event import Event

BLOCK = 2000
"""Milliseconds for which a read waits for new entries."""

REPLY_SLACK = 2.0
"""Seconds beyond BLOCK until a read times out."""

MAX_ENTRIES = 500
"""Entries per read, at most."""

IMPORT_BYTES = 1024 * 1024
"""Bytes of imports per read: several of the largest."""

ROLLED_BACK = "rolled back"
"""The key for the highest time of the events that the log has lost (microseconds since 1970)."""

MAX_DELIVERED = 10_000
"""Events whose keys a new log takes over, at most; a key has about 100 bytes."""

CHECKED_KEYS = (*TRIM_KEYS, ROLLED_BACK, "account_id")
"""The metadata that every check of the lease returns."""


class CommandSender(Protocol):
    """The part of cluster.redis_client.RedisClient that a RedisLog needs."""

    def call(self, *command: str | bytes | int, timeout: float = ...) -> Deferred[Any]:
        """Send Redis a command; see RedisClient.call."""

    def refuse_reply(self) -> RedisUnavailableError:
        """Abort the connection; see RedisClient.refuse_reply."""


@dataclass(frozen=True, slots=True)
class LeaseState:
    """The lease and the end of the log, at one moment."""

    owner: str | None
    """The node that has the lease; None if it is free."""
    token: str | None
    """The lease's fencing token, unique for each grant."""
    previous: str | None
    """The node that had the lease before; "" if none had."""
    epoch: str | None
    """None while there is no log, or while a part of it is missing: see cluster.scripts."""
    last: int
    """The highest number in the log."""
    remaining: float = 0.0
    """Seconds until the lease expires."""
    released: str | None = None
    """The `grant` that its owner has released; None if another one followed, or none was."""
    bounds: Mapping[str, str] = field(default_factory=dict)
    """The metadata under CHECKED_KEYS."""
    imports: tuple[int, str] = (0, "")
    """How many elements the list of imports has, and the SHA-1 hash of the last one.

    The count is -1 if Redis has no list there, but a value of another type.
    """
    assignments: str = ""
    """The SHA-1 hash of the assignments by hand; "" if there are none."""

    @property
    def grant(self) -> str:
        """The grant of the lease, by its owner and token. No other one has the same name."""
        return f"{self.owner} {self.token}"


class WriteResult(NamedTuple):
    """The result of a write: the highest number in the log, and how many events it already had."""

    last: int
    dropped: int


@dataclass(frozen=True, slots=True)
class LogState:
    """The state of the log at one moment."""

    metadata: Mapping[str, str]
    """Empty while there is no log, or while a part of it is missing: see cluster.scripts."""
    last: int
    """The highest number in the log."""
    stream_state: str | None
    """The last published one; None if there was none."""
    status_owner: str
    """The node that published the stream state; "" if there was none."""
    epoch_start: EpochStart | None
    """How the epoch began; None while there is no log."""
    payload: bytes | None
    """Of the event that was asked for; None if it is not in the log."""
    delivered: Sequence[bytes] = ()
    """The keys that the epoch began with: see `begin_epoch`."""


class RedisLog:
    """The log of one account. Every method may raise RedisUnavailableError.

    A write with a token that is no longer the lease's changes nothing.
    """

    def __init__(self, account: str, owner: str, redis: CommandSender) -> None:
        """`owner` is this node's name, unique to the process."""
        self.owner = owner
        self._redis = redis
        self._count = MAX_ENTRIES
        # With the owner's name a token stays unique even if Redis loses all its data.
        self._tokens = count(1)
        # Braces are a hash tag: a Redis Cluster keeps the keys of a script on one shard.
        self._keys = [f"tradeproxy:{{{account}}}:{key}" for key in scripts.KEYS]
        self._stream = self._keys[scripts.KEYS.index("stream")]
        self._metadata = self._keys[scripts.KEYS.index("facts")]

    # The lease.

    async def query_lease(
        self,
        milliseconds: int,
        *,
        acquire: bool,
        epoch: str = "",
        lost_through: int | None = None,
        report: str = "",
    ) -> LeaseState:
        """Return the lease's state; with `acquire`, first acquire it if free, renew it if ours.

        Args:
            milliseconds: the time until an acquired or renewed lease expires.
            acquire: whether to acquire or renew it.
            epoch: of the log that this node has read.
            lost_through: the highest time of the events that this log has lost (microseconds since
                1970), for the metadata; None if it has lost none.
            report: this node's last one to the roll call; "" if it leads. Without the log of the
                epoch, a free lease is acquired only if Redis still has the report.
        """
        arguments = (self.owner, next(self._tokens), milliseconds, int(acquire), epoch)
        lost = "" if lost_through is None else lost_through
        reply = await self._run(scripts.LEASE, *arguments, lost, report, *CHECKED_KEYS)
        with self._reading():
            imports = int(reply.pop(7))
            fields = (None if each is None else each.decode() for each in reply)
            owner, token, previous, found, last, remaining, released, *rest = fields
            newest, assignments, *bounds = rest
            checked = zip(CHECKED_KEYS, bounds, strict=True)
            return LeaseState(
                *(owner, token, previous, found, read_number(last), int(remaining or 0) / 1000),
                released,
                {key: text for key, text in checked if text is not None},
                (imports, newest or ""),
                assignments or "",
            )

    async def release(self, token: str) -> None:
        """Release the lease; does nothing if this node no longer has it."""
        await self._run(scripts.RELEASE, self.owner, token)

    # Only the leader may call these.

    async def write(
        self,
        token: str,
        now: int,
        events: Sequence[Event],
        metadata: Mapping[str, str | None],
        stream_state: str,
        read_to: int = 0,
    ) -> WriteResult | None:
        """Append the events that are new; save metadata; publish the stream state.

        Args:
            token: the lease's token.
            now: microseconds since 1970, recorded with each event.
            events: in their order; those that the log has are dropped.
            metadata: None as a value deletes the key; other keys stay.
            stream_state: "" publishes nothing.
            read_to: nothing is written to a log whose last number is lower: it lost its end.

        Returns None, without a change, if the token is no longer the lease's, or if a part of the
        log is missing.
        """
        pairs = _flatten(metadata)
        encoded = [field for event in events for field in encode_event(event)]
        head = (self.owner, token, now, read_to, stream_state)
        reply = await self._run(scripts.WRITE, *head, len(pairs), *pairs, *encoded)
        with self._reading():
            return None if reply is None else WriteResult(int(reply[0]), reply[1])

    async def begin_epoch(
        self,
        token: str,
        now: int,
        last: int,
        epoch_start: EpochStart,
        delivered: Sequence[bytes] = (),
        is_lost: bool = False,
    ) -> bool | None:
        """Begin another epoch; the events in the log are deleted.

        Args:
            token: the lease's token.
            now: microseconds since 1970; makes the entry's id a new one.
            last: the number of the last event; the next event gets the number after it.
            epoch_start: what readers learn of the epoch.
            delivered: the encoded keys of events up to `last`. The epoch drops these events.
            is_lost: whether the log before is lost. If it is there again, it stays.

        Returns whether it has begun; None, without a change, if the token is no longer the lease's.
        """
        pairs = _flatten(epoch_start.metadata)
        start = (last, now, epoch_start.encode(), int(is_lost), len(pairs))
        reply = await self._run(scripts.BEGIN_EPOCH, self.owner, token, *start, *pairs, *delivered)
        return None if reply is None else bool(reply)

    async def trim(
        self, token: str, epoch: str, through: int, metadata: Mapping[str, str | None]
    ) -> None:
        """Delete the events of this epoch up to number `through`, and save metadata."""
        bounds = (through, through + 1)
        await self._run(scripts.TRIM, self.owner, token, epoch, *bounds, *_flatten(metadata))

    async def append_imports(self, token: str, count: int, elements: Sequence[bytes]) -> int | None:
        """Append elements to the list of imports if it has `count`; with 0, begin another list.

        Returns how many it has then: as many as before if it had another count. Returns None,
        without a change, if the token is no longer the lease's.
        """
        reply = await self._run(scripts.APPEND_IMPORTS, self.owner, token, count, *elements)
        with self._reading():
            return None if reply is None else int(reply)

    # Every node may call these.

    async def read_state(self, seq: int, epoch: str = "") -> LogState:
        """Return the state of the log, with the payload of event `seq`.

        `epoch` is that of the log that this node has read. Of the same one, it does not get the
        keys of delivered events again.
        """
        reply = await self._run(scripts.READ_STATE, seq, epoch, MAX_DELIVERED)
        with self._reading():
            pairs, [last, state, owner, epoch_start], entries, delivered = reply
            metadata = pair_fields([text.decode() for text in pairs])
            if metadata:
                Metadata("").load(metadata, None)  # nodes do so after they have dropped their rows
            return LogState(
                metadata,
                read_number(None if last is None else last.decode()),
                None if state is None else state.decode(),
                "" if owner is None else owner.decode(),
                None if epoch_start is None else EpochStart.parse(epoch_start),
                pair_fields(entries[0][1]).get(b"p") if entries else None,
                [memoryview(key).tobytes() for key in delivered],
            )

    async def call_roll(self, report: str, milliseconds: int) -> dict[str, str]:
        """Report to the roll call; return the reports of all nodes before this one, by their names.

        All of them are deleted `milliseconds` after the last one, and when an epoch begins.
        """
        reply = await self._run(scripts.CALL_ROLL, self.owner, report, milliseconds)
        with self._reading():
            return pair_fields([each.decode() for each in reply])

    async def read_entries(self, after: bytes) -> list[LogEntry]:
        """Return the entries after an id; an empty list if none come within BLOCK.

        After ReplyTooLargeError the next call asks for a tenth of the entries.
        """
        command = ("XREAD", "COUNT", self._count, "BLOCK", BLOCK, "STREAMS", self._stream, after)
        try:
            reply = await self._redis.call(*command, timeout=BLOCK / 1000 + REPLY_SLACK)
        except ReplyTooLargeError:
            self._count = max(self._count // 10, 1)
            raise
        self._count = MAX_ENTRIES
        with self._reading():
            entries = [(bytes(at), list(fields)) for at, fields in reply[0][1]] if reply else []
            return [decode_entry(at, fields) for at, fields in entries]

    async def read_imports(self, first: int, limit: int) -> tuple[int, list[bytes]]:
        """Return how many imports there are, and up to `limit` of them from index `first` on.

        There are IMPORT_BYTES of them at most, but at least one. One that is larger than MAX_PAGE
        is empty.
        """
        reply = await self._run(scripts.READ_IMPORTS, first, limit, IMPORT_BYTES)
        with self._reading():
            count, elements = reply
            return max(int(count), 0), [bytes(element) for element in elements]

    async def read_assignments(self) -> str | None:
        """Return the assignments by hand; None if there are none."""
        reply = await self._redis.call("HGET", self._metadata, REMEMBERED + ASSIGNMENTS)
        with self._reading():
            return None if reply is None else reply.decode()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise RedisUnavailableError for a reply whose shape is not the command's."""
        try:
            yield
        except (AttributeError, LookupError, TypeError, ValueError):
            raise self._redis.refuse_reply() from None

    async def _run(self, script: scripts.Script, *arguments: str | bytes | int) -> Any:
        operands = (len(self._keys), *self._keys, *arguments)
        try:
            return await self._redis.call("EVALSHA", script.sha, *operands)
        except NoScriptError:  # EVAL also stores the script for the next EVALSHA
            return await self._redis.call("EVAL", script.source, *operands)


def _flatten(metadata: Mapping[str, str | None]) -> list[str]:
    return [text for key, value in metadata.items() for text in (key, value or "")]
