"""Tests for tradeproxy.cluster.redis_log."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred, fail, succeed

from tests.support.journals import event, events
from tests.support.logcase import METADATA, LogCase
from tests.support.nodes import METADATA_KEY, STATE_KEY, STREAM_KEY
from tests.support.redislog import done
from tradeproxy.cluster.log_entries import (
    EpochStart,
    EventEntry,
    InvalidEntry,
    LogEntry,
    StatusEntry,
    encode_key,
)
from tradeproxy.cluster.redis_client import RedisUnavailableError, ReplyTooLargeError
from tradeproxy.cluster.redis_log import CommandSender, RedisLog, WriteResult
from tradeproxy.wire.event import MAX_TIME, OrderState

NESTED = "[" * 100_000 + "]" * 100_000


class NarrowRedis:
    """Passes commands on; a reply of more than seven entries is too large."""

    def __init__(self, client: CommandSender) -> None:
        self._client = client

    def call(self, *command: str | bytes | int, timeout: float = 1.5) -> Deferred[Any]:
        if command[:2] == ("XREAD", "COUNT") and int(command[2]) > 7:
            return fail(ReplyTooLargeError("its reply is too large"))
        return self._client.call(*command, timeout=timeout)

    def refuse_reply(self) -> RedisUnavailableError:
        return self._client.refuse_reply()


class FixedRedis:
    """Answers every command with one reply."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    def call(self, *command: str | bytes | int, timeout: float = 1.5) -> Deferred[Any]:
        return succeed(self._reply)

    def refuse_reply(self) -> RedisUnavailableError:
        return RedisUnavailableError("refused")


class RedisLogTests(LogCase):
    """What is written is read back unchanged; each call is one atomic step."""

    def setUp(self) -> None:
        super().setUp()
        self.token = self.acquire_lease(self.log)

    def acquire_lease(self, log: RedisLog) -> str:
        """Acquire or renew a node's lease, and return the token."""
        token = done(log.query_lease(10_000, acquire=True)).token
        assert token is not None
        return token

    def begin_log(self, last: int = 0) -> None:
        """Begin the log after number `last`."""
        self.assertTrue(
            done(self.log.begin_epoch(self.token, 7, last, EpochStart("", 0, METADATA)))
        )

    def test_read_after_a_reply_that_is_too_large_asks_for_less(self) -> None:
        """Otherwise a node could not read beyond a few hundred events of a megabyte each."""
        self.begin_log()
        done(self.log.write(self.token, 1, events(*range(1, 9)), {}, ""))
        client = self.redis.make_client()
        client.open()
        log = RedisLog("paper", "b", NarrowRedis(client))
        for _ in range(2):
            for _ in ("500 entries", "50 entries"):
                with self.assertRaises(ReplyTooLargeError):
                    done(log.read_entries(b"0-0"))
            self.assertEqual(len(done(log.read_entries(b"0-0"))), 5)

    def read_entries(self, after: bytes = b"0-0") -> list[LogEntry]:
        """Return the entries after an id."""
        return done(self.log.read_entries(after))

    def test_read_returns_events_as_written(self) -> None:
        """Payloads that only a lenient parser takes, too."""
        self.begin_log()
        odd = replace(
            event(2),
            payload=b'\r\n{"a\x7f":NaN}',
            order=OrderState('"', "\n", "1", MAX_TIME),
            time=2**53 - 1,
            kind="other",
        )
        plain = replace(event(3), order=None, time=None)
        written = done(self.log.write(self.token, 12, [event(1), odd, plain], {}, ""))
        self.assertEqual(written, WriteResult(3, 0))
        first, *entries = self.read_entries()
        assert isinstance(first, StatusEntry)
        self.assertEqual(first.epoch_start, EpochStart("", 0, METADATA))
        self.assertEqual(
            entries,
            [
                EventEntry(b"1-0", 1, event(1), "e1", 12),
                EventEntry(b"2-0", 2, odd, "e1", 12),
                EventEntry(b"3-0", 3, plain, "e1", 12),
            ],
        )

    def test_times_outside_calendar_are_read_as_none(self) -> None:
        """An earlier version wrote them. Such an order would never change again."""
        self.begin_log()
        order = OrderState("id", "new", "0", MAX_TIME + 1)
        spoiled = replace(event(1), order=order, time=MAX_TIME + 1)
        done(self.log.write(self.token, 12, [spoiled], {}, ""))
        entry = self.read_entries()[-1]
        assert isinstance(entry, EventEntry)
        self.assertEqual(entry.event, replace(spoiled, order=replace(order, time=0), time=None))

    def test_entries_of_others_are_invalid(self) -> None:
        """Each one was an internal error, with a traceback. A lone surrogate fits no database."""
        self.begin_log()
        meta: list[Any] = ["id", "", 1, "new", ["o", "new", "0", 1]]
        fields: dict[str, Any] = {"p": "{}", "m": json.dumps(meta), "r": "1", "e": "e1"}
        changes: list[dict[str, Any]] = [
            {"m": "nonsense"},
            {"m": NESTED},
            *({"m": json.dumps([*meta[:at], {}, *meta[at + 1 :]])} for at in (0, 1, 3, 4)),
            {"m": json.dumps(["\ud800", *meta[1:]])},
            {"m": json.dumps([*meta[:4], ["o", 1, "0", 1]])},
            {"m": json.dumps([*meta[:4], ["\ud800", "new", "0", 1]])},
            {"x": "nonsense"},
            {"e": b"\xff"},
        ]
        for number, change in enumerate(changes, 9):
            pairs = [text for pair in (fields | change).items() for text in pair]
            self.redis.execute("XADD", STREAM_KEY, f"{number}-0", *pairs)
            entries = self.read_entries(b"%d-9" % (number - 1))
            self.assertEqual(entries, [InvalidEntry(b"%d-0" % number, number)], change)
        others: list[list[Any]] = [["x", "y"], ["s", b"\xff", "o", "x"], ["b", "{}"]]
        for number, pairs in enumerate(others, 1):
            self.redis.execute("XADD", STREAM_KEY, f"99-{number}", *pairs)
            entries = self.read_entries(b"99-%d" % (number - 1))
            self.assertEqual(entries, [InvalidEntry(b"99-%d" % number, None)], pairs)

    def test_wrong_metadata_is_an_error_of_the_log(self) -> None:
        """The nodes dropped their rows before they found it, and reading and trimming failed."""
        self.begin_log()
        for epoch in "\xff", "nonsense":
            self.redis.execute("HSET", METADATA_KEY, "epoch", epoch)
            state = Deferred.fromCoroutine(self.log.read_state(0))
            self.failureResultOf(state, RedisUnavailableError)
            self.log = self.make_log("a")
        self.redis.execute("HSET", METADATA_KEY, "epoch", METADATA["epoch"])
        self.assertEqual(done(self.log.read_state(0)).metadata, METADATA)

    def test_nested_state_is_an_error_of_the_log(self) -> None:
        """RecursionError is no ValueError: it passed everything that refuses such a log."""
        self.begin_log()
        self.redis.execute("HSET", STATE_KEY, "begun", NESTED)
        state = Deferred.fromCoroutine(self.log.read_state(0))
        self.failureResultOf(state, RedisUnavailableError)

    def test_number_in_place_of_a_key_is_an_error_of_the_log(self) -> None:
        """`bytes` of a number has that many zeros: a MemoryError, or gigabytes."""
        for key in (1 << 62, 3, None):
            log = RedisLog("paper", "a", FixedRedis([[], [None] * 4, [], [key]]))
            state = Deferred.fromCoroutine(log.read_state(0))
            self.failureResultOf(state, RedisUnavailableError)

    def test_write_drops_known_events(self) -> None:
        """The same identity with another digest is another event."""
        self.begin_log()
        corrected = replace(event(1), digest=b"\x00" * 16)
        done(self.log.write(self.token, 1, [event(1), event(1), corrected], {}, ""))
        self.assertEqual(
            done(self.log.write(self.token, 1, events(1, 2), {}, "")), WriteResult(3, 1)
        )
        seqs = [entry.seq for entry in self.read_entries() if isinstance(entry, EventEntry)]
        self.assertEqual(seqs, [1, 2, 3])

    def test_write_keeps_only_newest_stream_state(self) -> None:
        """In the stream, and in the log's state."""
        self.begin_log()
        for n, state in enumerate(("one", "two", "three")):
            done(self.log.write(self.token, 1, events(n), {}, state))
        self.assertEqual(
            [entry.stream_state for entry in self.read_entries() if isinstance(entry, StatusEntry)],
            [None, "three"],
        )
        self.assertEqual(done(self.log.read_state(0)).stream_state, "three")

    def test_write_saves_and_deletes_metadata(self) -> None:
        """Other keys stay."""
        self.begin_log()
        done(self.log.write(self.token, 1, [], {"latest": "5", "account_id": "x"}, ""))
        done(self.log.write(self.token, 1, [], {"latest": None, "odd \ud800"[:3]: "y"}, ""))
        self.assertEqual(
            done(self.log.read_state(0)).metadata, {**METADATA, "account_id": "x", "odd": "y"}
        )

    def test_keys_of_delivered_events_are_read_by_nodes_of_another_epoch(self) -> None:
        """A node that begins the next log passes them on: its backfill may find these events."""
        delivered = [encode_key(each.key) for each in events(1, 2)]
        epoch_start = EpochStart("", 2, {**METADATA, "trimmed": "2"})
        done(self.log.begin_epoch(self.token, 7, 2, epoch_start, delivered))
        done(self.log.write(self.token, 1, events(1, 3), {}, ""))
        self.assertEqual(sorted(done(self.log.read_state(0, "e0")).delivered), sorted(delivered))
        self.assertEqual(done(self.log.read_state(0, METADATA["epoch"])).delivered, [])
        done(self.log.trim(self.token, METADATA["epoch"], 3, {**METADATA, "trimmed": "3"}))
        self.assertEqual(done(self.log.read_state(0)).delivered, [])

    def test_begin_epoch_empties_log_and_continues_numbers(self) -> None:
        """Only the stream state stays."""
        self.begin_log()
        done(self.log.write(self.token, 1, events(1, 2), {"account_id": "x"}, "up"))
        epoch_start = EpochStart("e1", 2, {**METADATA, "epoch": "e2", "trimmed": "2"})
        done(self.log.begin_epoch(self.token, 8, 2, epoch_start))
        entries: list[Any] = self.read_entries()
        self.assertEqual(
            [(entry.id, entry.epoch_start) for entry in entries], [(b"2-8", epoch_start)]
        )
        log_state = done(self.log.read_state(2))
        self.assertEqual(
            (log_state.metadata, log_state.epoch_start, log_state.last),
            (epoch_start.metadata, epoch_start, 2),
        )
        self.assertEqual((log_state.payload, log_state.stream_state), (None, "up"))
        self.assertEqual(
            done(self.log.write(self.token, 1, events(1), {}, "up")), WriteResult(3, 0)
        )
        self.assertEqual([entry.id for entry in self.read_entries()], [b"2-8", b"3-0", b"3-1"])

    def test_lost_log_that_is_there_again_stays(self) -> None:
        """Unless it is the one that has begun, with a reply that was lost."""
        lost = EpochStart("e1", 0, METADATA)
        for _ in range(2):
            self.assertTrue(done(self.log.begin_epoch(self.token, 7, 0, lost, is_lost=True)))
        done(self.log.write(self.token, 1, events(1), {}, ""))
        before = self.redis.dump()
        other = EpochStart("e1", 0, {**METADATA, "epoch": "e3"})
        has_begun = done(self.log.begin_epoch(self.token, 8, 0, other, is_lost=True))
        self.assertIs(has_begun, False)
        self.assertEqual(self.redis.dump(), before)

    def test_write_to_shortened_log_changes_nothing(self) -> None:
        """A writer that has read further sees that by the returned number."""
        self.begin_log()
        done(self.log.write(self.token, 1, events(1), {}, ""))
        before = self.redis.dump()
        written = done(self.log.write(self.token, 1, events(2), {"latest": "1"}, "up", read_to=2))
        self.assertEqual(written, WriteResult(1, 0))
        self.assertEqual(self.redis.dump(), before)

    def test_trim_deletes_entries_and_identities(self) -> None:
        """Numbers continue."""
        self.begin_log()
        for n in (1, 2, 3):
            done(self.log.write(self.token, 1, events(n), {}, "up"))
        done(self.log.trim(self.token, METADATA["epoch"], 2, {"trimmed": "2"}))
        self.assertEqual([entry.id for entry in self.read_entries()], [b"3-0", b"3-1"])
        self.assertEqual(
            done(self.log.write(self.token, 1, events(2, 3), {}, "down")), WriteResult(4, 1)
        )
        self.assertEqual([entry.id for entry in self.read_entries()], [b"3-0", b"4-0", b"4-1"])

    def test_log_without_rows_is_whole(self) -> None:
        """The former version trimmed the last event too."""
        self.begin_log()
        for n in (1, 2, 3):
            done(self.log.write(self.token, 1, events(n), {}, "up"))
        done(self.log.trim(self.token, METADATA["epoch"], 3, {"trimmed": "3"}))
        self.assertEqual(self.redis.execute("XLEN", STREAM_KEY), 0)
        self.assertEqual(
            done(self.log.write(self.token, 1, events(3), {}, "down")), WriteResult(4, 0)
        )
        self.assertEqual([entry.id for entry in self.read_entries()], [b"4-0", b"4-1"])

    def test_read_state_returns_payload_of_event(self) -> None:
        """None where there is no log, or no such event."""
        log_state = done(self.log.read_state(1))
        self.assertEqual(
            (log_state.metadata, log_state.last, log_state.epoch_start, log_state.payload),
            ({}, 0, None, None),
        )
        self.begin_log()
        done(self.log.write(self.token, 1, events(1), {}, ""))
        self.assertEqual(done(self.log.read_state(1)).payload, event(1).payload)
        self.assertIsNone(done(self.log.read_state(2)).payload)

    def test_read_entries_blocks_until_entry_or_two_seconds(self) -> None:
        """A reply may take two seconds more."""
        self.begin_log()
        waiting = Deferred.fromCoroutine(self.log.read_entries(b"0-7"))
        self.assertNoResult(waiting)
        done(self.log.write(self.token, 1, events(1), {}, ""))
        [entry] = self.successResultOf(waiting)
        waiting = Deferred.fromCoroutine(self.log.read_entries(entry.id))
        self.clock.advance(1.9995)
        self.assertNoResult(waiting)
        self.clock.advance(0.0006)
        self.assertEqual(self.successResultOf(waiting), [])
        self.redis.clients[0].stop_replying()
        waiting = Deferred.fromCoroutine(self.log.read_entries(entry.id))
        self.clock.advance(4)
        error = self.failureResultOf(waiting, RedisUnavailableError).value
        self.assertEqual(str(error), "it does not answer within 4 s")

    def test_read_entries_returns_500_at_most(self) -> None:
        """They are applied in one turn of the reactor."""
        self.begin_log()
        done(self.log.write(self.token, 1, events(*range(501)), {}, ""))
        entries = self.read_entries()
        self.assertEqual((len(entries), entries[-1].id), (500, b"499-0"))
        self.assertEqual([entry.id for entry in self.read_entries(b"499-0")], [b"500-0", b"501-0"])

    def test_call_roll_returns_reports_of_all_nodes(self) -> None:
        """Those before the new one, which replaces the older one of its node."""
        for owner, report in (("a", "1 1"), ("b", "2 1"), ("a", "4 2"), ("c", "3 1")):
            reports = done(self.make_log(owner).call_roll(report, 10_000))
        self.assertEqual(reports, {"a": "4 2", "b": "2 1"})

    def test_lease_of_empty_log_has_number_0(self) -> None:
        """The remaining time is in seconds."""
        lease = done(self.log.query_lease(10_000, acquire=True))
        self.assertEqual((lease.epoch, lease.last, lease.bounds), (None, 0, {}))
        self.assertAlmostEqual(lease.remaining, 10, delta=0.008)
        self.assertIsNone(lease.released)

    def test_too_long_lease_expires_in_time(self) -> None:
        """Redis may be of a clock that was set back; its dead owner would hold it for hours."""
        done(self.log.query_lease(3_600_000, acquire=True))
        other = self.make_log("b")
        lease = done(other.query_lease(10_000, acquire=False))
        self.assertEqual(lease.owner, "a")
        self.assertAlmostEqual(lease.remaining, 10, delta=0.008)
        self.clock.advance(10.1)
        self.assertIsNone(done(other.query_lease(10_000, acquire=False)).owner)

    def test_lease_has_one_owner_until_release_or_expiry(self) -> None:
        """Other nodes get the owner's name."""
        other = self.make_log("b")
        lease = done(other.query_lease(10_000, acquire=True))
        self.assertEqual((lease.owner, lease.token, lease.previous), ("a", self.token, ""))
        done(self.log.release(self.token))
        lease = done(other.query_lease(10_000, acquire=False))
        self.assertEqual((lease.owner, lease.token, lease.previous), (None, None, None))
        lease = done(other.query_lease(10_000, acquire=True))
        self.assertEqual((lease.owner, lease.previous), ("b", "a"))
        self.clock.advance(9.5)
        self.assertEqual(done(self.log.query_lease(10_000, acquire=True)).owner, "b")
        self.clock.advance(1)
        lease = done(self.log.query_lease(10_000, acquire=True))
        self.assertEqual((lease.owner, lease.previous), ("a", "b"))

    def test_lease_is_renewed_only_by_owner_with_acquire(self) -> None:
        """A renewal keeps the token and the previous owner."""
        for _ in range(3):
            self.clock.advance(9)
            self.assertEqual(self.acquire_lease(self.log), self.token)
            done(self.make_log("b").query_lease(10_000, acquire=True))
            done(self.log.query_lease(10_000, acquire=False))
        self.clock.advance(10.5)
        lease = done(self.log.query_lease(10_000, acquire=True))
        self.assertNotEqual(lease.token, self.token)
        self.assertEqual(lease.previous, "a")

    def test_token_after_flush_is_new(self) -> None:
        """Redis itself has no memory of earlier tokens then."""
        self.redis.flush()
        self.assertNotEqual(self.acquire_lease(self.log), self.token)

    def test_accounts_have_separate_logs(self) -> None:
        """Each account has keys of its own."""
        client = self.redis.make_client()
        client.open()
        live = RedisLog("live", "b", client)
        self.begin_log()
        self.assertEqual(done(live.query_lease(10_000, acquire=True)).owner, "b")
        self.assertEqual(done(live.read_state(0)).metadata, {})
