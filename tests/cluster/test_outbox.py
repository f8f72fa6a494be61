"""Tests for tradeproxy.cluster.outbox."""

from __future__ import annotations

from dataclasses import replace

from tests.support.journals import event, events
from tests.support.logcase import FACTS, LogCase
from tests.support.redislog import done
from tradeproxy.cluster.outbox import BATCH, BATCH_BYTES, FENCED, FULL, LOG_SHORTENED, Outbox
from tradeproxy.cluster.redis_log import EpochStart, EventEntry, WriteResult
from tradeproxy.journal.backlog import MAX_EVENTS


class OutboxTests(LogCase):
    """What is put in is written, in its order, and kept until it has been read back."""

    def setUp(self) -> None:
        super().setUp()
        [self.link] = self.redis.links
        self.outbox = Outbox(self.log, self.clock)
        self.written: list[WriteResult] = []
        self.refused: list[str] = []
        self.outbox.on_written = lambda written, _: self.written.append(written)
        self.outbox.on_rejected = self.refused.append
        self.link.on_up = self.outbox.rewrite
        self.token = self.lead()

    def lead(self, *, keep: bool = True) -> str:
        """Take the lease, and begin a log if there is none."""
        look = done(self.log.query_lease(10**9, acquire=True))
        assert look.token is not None
        self.outbox.start(look.token, look.last, keep=keep)
        if look.epoch is None:
            self.outbox.begin_epoch(0, EpochStart("", 0, FACTS))
        self.outbox.flush()
        return look.token

    def put(self, *numbers: int) -> None:
        for each in events(*numbers):
            self.outbox.add(each, 0)
        self.outbox.flush()

    def in_log(self) -> list[bytes]:
        entries = []
        after = b"0-0"
        reader = self.node("reader")
        while done(reader.read_state(0)).last > int(after.partition(b"-")[0]):
            entries += done(reader.read_entries(after))
            after = entries[-1].id
        return [entry.event.payload for entry in entries if isinstance(entry, EventEntry)]

    def assert_log(self, *numbers: int) -> None:
        self.assertEqual(self.in_log(), [event(n).payload for n in numbers])

    def test_is_empty_when_all_has_been_read_back(self) -> None:
        """Until then an event is known here."""
        self.put(1, 2)
        self.put(3)
        self.assert_log(1, 2, 3)
        self.outbox.confirm(2)
        self.assertEqual([self.outbox.has(event(n)) for n in (1, 2, 3)], [False, False, True])
        self.outbox.confirm(3)
        self.assertFalse(self.outbox.has(event(3)))
        self.assertEqual(self.written, [WriteResult(2, 0), WriteResult(3, 0)])

    def test_much_is_written_in_parts(self) -> None:
        """Redis does nothing else while it runs a script."""
        self.put(*range(2 * BATCH + 100))
        self.assertEqual(
            [written.last for written in self.written], [BATCH, 2 * BATCH, 2 * BATCH + 100]
        )
        self.assert_log(*range(2 * BATCH + 100))

    def test_large_events_are_written_in_smaller_parts(self) -> None:
        """By their bytes; one that is larger goes alone. What is said of all of them goes with the last."""
        sizes = [BATCH_BYTES // 2, BATCH_BYTES // 2, 1, 2 * BATCH_BYTES, 1, 1]
        large = [replace(event(n), payload=b"x" * size) for n, size in enumerate(sizes)]
        self.link.cut()
        for each in large:
            self.outbox.add(each, 0)
        self.outbox.publish_state("up")
        self.outbox.save_metadata({"latest": "5"})
        facts: list[str | None] = []
        self.outbox.on_written = lambda written, _: self.written.append(written)
        self.redis.on_command = lambda _: facts.append(self.fact("latest"))
        self.link.mend()
        self.redis.on_command = lambda _: None
        self.assertEqual([written.last for written in self.written], [2, 3, 4, 6])
        self.assertEqual(self.in_log(), [each.payload for each in large])
        self.assertEqual((set(facts), self.fact("latest")), ({None}, "5"))
        self.assertEqual(done(self.log.read_state(0)).stream_state, "up")

    def fact(self, name: str) -> str | None:
        told = self.redis.ask("HGET", "tradeproxy:{paper}:facts", name)
        return None if told is None else str(told.decode())

    def test_what_comes_while_something_is_written_goes_together(self) -> None:
        """One command after the other, each with all that there is."""
        self.link.fall_silent()
        self.put(1)
        self.put(2)
        self.put(3)
        self.outbox.publish_state("up")
        self.outbox.save_metadata({"latest": "5"})
        self.link.mend()
        self.clock.advance(1.5)
        self.clock.advance(0.5)
        self.assertEqual(self.written, [WriteResult(3, 0)])
        self.assertEqual(done(self.log.read_state(0)).stream_state, "up")

    def test_what_is_read_back_in_the_meantime_is_not_told_again(self) -> None:
        """Its answer was lost, and only the reading shows that it was done."""
        self.link.lose_answer()
        self.put(1)
        self.outbox.confirm(1, [event(1)])
        self.assertFalse(self.outbox.has(event(1)))
        self.put(2)
        self.clock.advance(0.5)
        self.assert_log(1, 2)
        self.assertEqual(self.written, [WriteResult(2, 0)])
        self.outbox.confirm(2)
        self.assertFalse(self.outbox.has(event(1)))

    def test_only_the_newest_is_said(self) -> None:
        """Facts and standings replace each other; who has been away tells the last ones."""
        self.link.cut()
        for n in (1, 2):
            self.outbox.save_metadata({"latest": str(n)})
            self.outbox.publish_state(f"standing {n}")
        self.link.mend()
        place = done(self.log.read_state(0))
        self.assertEqual((place.stream_state, place.metadata["latest"]), ("standing 2", "2"))

    def test_who_is_fenced_off_writes_nothing(self) -> None:
        """It says so each time; what comes is kept, for the lease may be this node's again."""
        done(self.log.release(self.token))
        self.put(1)
        self.put(2)
        self.assertEqual(self.refused, [FENCED, FENCED])
        self.assert_log()
        self.assertEqual([self.outbox.has(event(n)) for n in (1, 2)], [True, True])

    def test_who_is_fenced_off_begins_no_epoch(self) -> None:
        """The log of another node stays."""
        self.put(1)
        done(self.log.release(self.token))
        self.outbox.begin_epoch(1, EpochStart("e1", 1, {**FACTS, "epoch": "e2"}))
        self.assertEqual(self.refused, [FENCED])
        self.assert_log(1)

    def test_a_log_that_has_lost_its_end_is_not_written_to(self) -> None:
        """What was read of it is to be found first."""
        saved = self.redis.saved()
        self.put(1)
        self.outbox.confirm(1)
        self.redis.roll_back(saved)
        self.put(2)
        self.assertEqual(self.refused, [LOG_SHORTENED])
        self.assert_log()

    def test_what_is_left_is_kept_for_the_next_turn(self) -> None:
        """Or not: if another node has led since."""
        for keep, numbers in ((True, (1, 2)), (False, (1, 2))):
            self.link.cut()
            self.put(1 if keep else 3)
            self.outbox.stop()
            self.link.mend()
            self.lead(keep=keep)
            if keep:
                self.put(2)
            self.assert_log(*numbers)

    def test_there_is_room_for_so_many(self) -> None:
        """What comes after the first that has none is not taken, whatever its size, before the next turn."""
        self.link.cut()
        self.put(*range(MAX_EVENTS))
        self.assertEqual(self.refused, [])
        self.assertFalse(self.outbox.add(event(MAX_EVENTS), 0))
        self.link.mend()
        self.outbox.confirm(MAX_EVENTS)
        self.assertFalse(self.outbox.add(event(MAX_EVENTS + 1), 0))
        self.assertEqual(self.refused, [FULL])
        self.outbox.stop()
        self.lead()
        self.assertTrue(self.outbox.add(event(MAX_EVENTS), 0))

    def test_says_when_all_is_written(self) -> None:
        """At once, if there is nothing; and when nothing is written any more."""
        self.successResultOf(self.outbox.when_written())
        self.link.cut()
        self.put(1)
        waiting = self.outbox.when_written()
        self.assertNoResult(waiting)
        self.link.mend()
        self.successResultOf(waiting)
        self.link.cut()
        self.put(2)
        waiting = self.outbox.when_written()
        self.outbox.stop()
        self.successResultOf(waiting)
        self.successResultOf(self.outbox.when_written())

    def test_an_answer_to_a_former_turn_is_ignored(self) -> None:
        """It says nothing of what is to be written now."""
        self.link.fall_silent()
        self.put(1)
        self.outbox.stop()
        self.link.mend()
        self.outbox.start("another", 0, keep=False)
        self.clock.advance(1.5)
        self.clock.advance(0.5)
        self.assertEqual((self.written, self.refused), ([], []))

    def test_an_error_of_our_own_is_logged(self) -> None:
        """What comes next is tried all the same."""

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        self.outbox.on_written = fail
        self.put(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.outbox.on_written = lambda written, _: self.written.append(written)
        self.put(2)
        self.assert_log(1, 2)
