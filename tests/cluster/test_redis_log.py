"""Tests for tradeproxy.cluster.redis_log: what is written is read as it was."""

from __future__ import annotations

from typing import Any

from dataclasses import replace

from twisted.internet.defer import Deferred

from tests.support.journals import event, events
from tests.support.logcase import FACTS, LogCase
from tests.support.redislog import done
from tradeproxy.cluster.redis_log import (
    BLOCK,
    EpochStart,
    EventEntry,
    RedisLog,
    StatusEntry,
    WriteResult,
)
from tradeproxy.wire.event import OrderState


class SharedLogTests(LogCase):
    """Each call is one step in Redis."""

    def setUp(self) -> None:
        super().setUp()
        self.token = self.take(self.log)

    def take(self, log: RedisLog) -> str:
        token = done(log.query_lease(10_000, acquire=True)).token
        assert token is not None
        return token

    def begin(self, last: int = 0) -> None:
        self.assertTrue(done(self.log.begin_epoch(self.token, 7, last, EpochStart("", 0, FACTS))))

    def entries(self, after: bytes = b"0-0") -> list[StatusEntry | EventEntry]:
        return done(self.log.read_entries(after))

    def test_an_event_is_read_as_it_was_written(self) -> None:
        """Bytes that are no text, words that are not ASCII, and lone surrogates, which JSON may bring."""
        self.begin()
        odd = replace(
            event(2),
            payload=b"\x00\xff\r\n{}",
            identity="caf\u00e9 \ud800",
            order=OrderState("\ud800", "\u00fc", "1", 2**60),
            time=2**53 - 1,
            kind="\U0001f600",
        )
        plain = replace(event(3), order=None, time=None)
        written = done(self.log.write(self.token, 12, [event(1), odd, plain], {}, ""))
        self.assertEqual(written, WriteResult(3, 0))
        begun, *told = self.entries()
        assert isinstance(begun, StatusEntry)
        self.assertEqual(begun.epoch_start, EpochStart("", 0, FACTS))
        self.assertEqual(
            told,
            [
                EventEntry(b"1-0", 1, event(1), "e1", 12),
                EventEntry(b"2-0", 2, odd, "e1", 12),
                EventEntry(b"3-0", 3, plain, "e1", 12),
            ],
        )

    def test_an_event_is_added_once(self) -> None:
        """The same identity with another digest is another event."""
        self.begin()
        corrected = replace(event(1), digest=b"\x00" * 16)
        done(self.log.write(self.token, 1, [event(1), event(1), corrected], {}, ""))
        self.assertEqual(
            done(self.log.write(self.token, 1, events(1, 2), {}, "")), WriteResult(3, 1)
        )
        seqs = [entry.seq for entry in self.entries() if isinstance(entry, EventEntry)]
        self.assertEqual(seqs, [1, 2, 3])

    def test_only_the_newest_standing_is_kept(self) -> None:
        """Between the events, and for who asks where the log is."""
        self.begin()
        for n, standing in enumerate(("one", "two", "three")):
            done(self.log.write(self.token, 1, events(n), {}, standing))
        self.assertEqual(
            [entry.stream_state for entry in self.entries() if isinstance(entry, StatusEntry)],
            [None, "three"],
        )
        self.assertEqual(done(self.log.read_state(0)).stream_state, "three")

    def test_facts_are_saved_and_removed(self) -> None:
        """What is not named stays."""
        self.begin()
        done(self.log.write(self.token, 1, [], {"latest": "5", "account_id": "x"}, ""))
        done(self.log.write(self.token, 1, [], {"latest": None, "odd \ud800"[:3]: "y"}, ""))
        self.assertEqual(
            done(self.log.read_state(0)).metadata, {**FACTS, "account_id": "x", "odd": "y"}
        )

    def test_an_epoch_begins_where_it_is_told_to(self) -> None:
        """Nothing of the old one is left, but how the stream was."""
        self.begin()
        done(self.log.write(self.token, 1, events(1, 2), {"account_id": "x"}, "up"))
        begun = EpochStart("e1", 2, {**FACTS, "epoch": "e2"})
        done(self.log.begin_epoch(self.token, 8, 2, begun))
        entries: list[Any] = self.entries()
        self.assertEqual([(entry.id, entry.epoch_start) for entry in entries], [(b"2-8", begun)])
        place = done(self.log.read_state(2))
        self.assertEqual(
            (place.metadata, place.epoch_start, place.last), (begun.metadata, begun, 2)
        )
        self.assertEqual((place.payload, place.stream_state), (None, "up"))
        self.assertEqual(
            done(self.log.write(self.token, 1, events(1), {}, "up")), WriteResult(3, 0)
        )
        self.assertEqual([entry.id for entry in self.entries()], [b"2-8", b"3-0", b"3-1"])

    def test_a_log_that_has_lost_its_end_is_left_as_it_is(self) -> None:
        """Whoever has read further sees that by the number."""
        self.begin()
        done(self.log.write(self.token, 1, events(1), {}, ""))
        before = self.redis.saved()
        written = done(self.log.write(self.token, 1, events(2), {"latest": "1"}, "up", read_to=2))
        self.assertEqual(written, WriteResult(1, 0))
        self.assertEqual(self.redis.saved(), before)

    def test_trims(self) -> None:
        """Entries, identities and what is said between them; the number goes on."""
        self.begin()
        for n in (1, 2, 3):
            done(self.log.write(self.token, 1, events(n), {}, "up"))
        done(self.log.trim(self.token, 3, {"trimmed": "3"}))
        self.assertEqual(self.redis.ask("XLEN", "tradeproxy:{paper}:stream"), 0)
        self.assertEqual(
            done(self.log.write(self.token, 1, events(3), {}, "down")), WriteResult(4, 0)
        )
        self.assertEqual([entry.id for entry in self.entries()], [b"4-0", b"4-1"])

    def test_tells_the_place_of_an_event(self) -> None:
        """At one moment; nothing where there is nothing."""
        place = done(self.log.read_state(1))
        self.assertEqual(
            (place.metadata, place.last, place.epoch_start, place.payload), ({}, 0, None, None)
        )
        self.begin()
        done(self.log.write(self.token, 1, events(1), {}, ""))
        self.assertEqual(done(self.log.read_state(1)).payload, event(1).payload)
        self.assertIsNone(done(self.log.read_state(2)).payload)

    def test_a_read_waits_for_what_comes(self) -> None:
        """At most two seconds."""
        self.begin()
        waiting = Deferred.fromCoroutine(self.log.read_entries(b"0-7"))
        self.assertNoResult(waiting)
        done(self.log.write(self.token, 1, events(1), {}, ""))
        [told] = self.successResultOf(waiting)
        waiting = Deferred.fromCoroutine(self.log.read_entries(told.id))
        self.clock.advance(BLOCK / 1000)
        self.assertEqual(self.successResultOf(waiting), [])

    def test_the_lease_has_one_owner(self) -> None:
        """Who asks for it hears who that is; it is free when it is released, or has run out."""
        other = self.node("b")
        look = done(other.query_lease(10_000, acquire=True))
        self.assertEqual((look.owner, look.token, look.previous), ("a", self.token, ""))
        done(self.log.release(self.token))
        look = done(other.query_lease(10_000, acquire=False))
        self.assertEqual((look.owner, look.token, look.previous), (None, None, None))
        look = done(other.query_lease(10_000, acquire=True))
        self.assertEqual((look.owner, look.previous), ("b", "a"))
        self.clock.advance(9.5)
        self.assertEqual(done(self.log.query_lease(10_000, acquire=True)).owner, "b")
        self.clock.advance(1)
        look = done(self.log.query_lease(10_000, acquire=True))
        self.assertEqual((look.owner, look.previous), ("a", "b"))

    def test_a_lease_is_renewed_by_its_owner_only(self) -> None:
        """The token and who had it before stay what they were; a mere look renews nothing."""
        for _ in range(3):
            self.clock.advance(9)
            self.assertEqual(self.take(self.log), self.token)
            done(self.node("b").query_lease(10_000, acquire=True))
            done(self.log.query_lease(10_000, acquire=False))
        self.clock.advance(10.5)
        look = done(self.log.query_lease(10_000, acquire=True))
        self.assertNotEqual(look.token, self.token)
        self.assertEqual(look.previous, "a")

    def test_a_token_is_never_used_twice(self) -> None:
        """Not even by a Redis that has forgotten everything."""
        self.redis.forget()
        self.assertNotEqual(self.take(self.log), self.token)

    def test_accounts_are_kept_apart(self) -> None:
        """Each has keys of its own."""
        link = self.redis.link()
        link.open()
        live = RedisLog("live", "b", link)
        self.begin()
        self.assertEqual(done(live.query_lease(10_000, acquire=True)).owner, "b")
        self.assertEqual(done(live.read_state(0)).metadata, {})
