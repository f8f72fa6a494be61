"""Tests for tradeproxy.cluster.outbox."""

from __future__ import annotations

from msgspec.structs import replace

from tests.support.journals import NOW, event, events
from tests.support.logcase import METADATA, LogCase
from tests.support.nodes import LEASE_KEY, METADATA_KEY
from tests.support.redislog import ReplyDelay, done
from tradeproxy.cluster.log_entries import EpochStart, EventEntry
from tradeproxy.cluster.outbox import (
    BATCH_BYTES,
    FENCED,
    FULL,
    LOG_RETURNED,
    LOG_SHORTENED,
    Outbox,
)
from tradeproxy.cluster.redis_log import WriteResult
from tradeproxy.journal.backlog import MAX_BYTES


class OutboxTests(LogCase):
    """Events are written in order, and kept until they are read back."""

    def setUp(self) -> None:
        super().setUp()
        [self.client] = self.redis.clients
        self.outbox = Outbox(self.log, self.clock, self.clock.seconds)
        self.written: list[WriteResult] = []
        self.rejected: list[str] = []
        self.outbox.on_written = lambda written, _: self.written.append(written)
        self.outbox.on_rejected = self.rejected.append
        self.client.on_up = self.outbox.rewrite
        self.token = self.acquire_lease()

    def acquire_lease(self) -> str:
        """Acquire the lease, start the outbox, begin a log if needed; return the token."""
        lease = done(self.log.query_lease(10**9, acquire=True))
        assert lease.token is not None
        self.outbox.start(lease.token, lease.last)
        if lease.epoch is None:
            self.outbox.begin_epoch(0, EpochStart("", 0, METADATA))
        self.outbox.flush()
        return lease.token

    def add(self, *numbers: int) -> None:
        """Add events, and write."""
        for each in events(*numbers):
            self.outbox.add(each, 0)
        self.outbox.flush()

    def read_payloads(self) -> list[bytes]:
        """Return the payloads of the events in the log."""
        entries = []
        after = b"0-0"
        reader = self.make_log("reader")
        while done(reader.read_state(0)).last > int(after.partition(b"-")[0]):
            entries += done(reader.read_entries(after))
            after = entries[-1].id
        found = (entry.event for entry in entries if isinstance(entry, EventEntry))
        return [event.payload for event in found if event is not None]

    def assert_log(self, *numbers: int) -> None:
        """Assert that the log has exactly these events, in this order."""
        self.assertEqual(self.read_payloads(), [event(n).payload for n in numbers])

    def test_confirm_removes_events_read_back(self) -> None:
        """Until then the outbox has the event."""
        self.add(1, 2)
        self.add(3)
        self.assert_log(1, 2, 3)
        self.outbox.confirm(2)
        self.assertEqual(
            [self.outbox.events.has(event(n)) for n in (1, 2, 3)], [False, False, True]
        )
        self.outbox.confirm(3)
        self.assertFalse(self.outbox.events.has(event(3)))
        self.assertEqual(self.written, [WriteResult(2, 0), WriteResult(3, 0)])

    def assert_held(self, *numbers: int) -> None:
        """Assert that of events 1 to 6 the outbox has exactly these."""
        self.assertEqual(
            [n for n in range(1, 7) if self.outbox.events.has(event(n))], list(numbers)
        )

    def test_confirm_removes_writes_up_to_number_read(self) -> None:
        """Each write has another number of events; one is removed when its last event was read."""
        self.add(1)
        self.add(2, 3)
        self.add(4, 5, 6)
        for last, numbers in ((1, range(2, 7)), (2, range(2, 7)), (3, range(4, 7)), (6, ())):
            self.outbox.confirm(last)
            self.assert_held(*numbers)

    def test_confirm_without_reply_removes_events_up_to_newest_read(self) -> None:
        """The reply was lost, so nothing is known of the numbers."""
        self.client.lose_reply()
        self.add(1, 2, 3)
        self.outbox.confirm(2, events(1, 2))
        self.assert_held(3)

    def test_rest_of_write_read_in_parts_is_not_written_again(self) -> None:
        """A read may end in the middle of what one write had."""
        self.add(1, 2)
        self.add(3)
        self.outbox.confirm(1, events(1))
        self.assert_held(2, 3)
        self.add(4)
        self.assertEqual(self.written, [WriteResult(n, 0) for n in (2, 3, 4)])

    def test_dropped_events_do_not_delay_later_ones(self) -> None:
        """They were written, and not read back."""
        self.add(1)
        self.outbox.drop_events()
        self.assertEqual(len(self.outbox.events), 0)
        self.add(2)
        self.assert_log(1, 2)

    def test_number_read_after_stop_removes_nothing(self) -> None:
        """After a loss of data, another node's event may have the number that Redis returned."""
        self.add(1)
        self.outbox.stop()
        self.outbox.confirm(1, events(5))
        self.assert_held(1)

    def test_write_has_at_most_500_events(self) -> None:
        """Redis executes nothing else while it runs a script."""
        self.add(*range(1100))
        self.assertEqual([written.last for written in self.written], [500, 1000, 1100])
        self.assert_log(*range(1100))

    def test_write_has_at_most_one_mebibyte(self) -> None:
        """Without the last byte both events go together."""
        numbers = iter(range(9))
        for sizes, count in (((2**20 - 1, 1), 1), ((2**20 - 1, 2), 2), ((2**20, 1), 2)):
            self.written.clear()
            for size in sizes:
                self.outbox.add(replace(event(next(numbers)), payload=b"x" * size), 0)
            self.outbox.flush()
            self.assertEqual(len(self.written), count, sizes)

    def test_entries_have_time_of_write(self) -> None:
        """In microseconds since 1970: as an event's time of receipt, and in an epoch's id."""
        self.add(1)
        epoch_start, entry = done(self.log.read_entries(b"0-0"))
        self.assertEqual(epoch_start.id, b"0-%d" % (NOW * 1_000_000))
        assert isinstance(entry, EventEntry)
        self.assertEqual(entry.received, NOW * 1_000_000)

    def test_outbox_without_callbacks_writes_and_rejects(self) -> None:
        """A caller may ignore the results."""
        outbox = Outbox(self.log, self.clock, self.clock.seconds)
        outbox.start(self.token, 0)
        self.assertTrue(outbox.add(event(1), 0))
        outbox.flush()
        self.assert_log(1)
        self.assertFalse(outbox.add(replace(event(2), payload=b"x" * MAX_BYTES), 0))

    def test_large_events_are_written_in_smaller_batches(self) -> None:
        """An event above the limit goes alone. Metadata and stream state go with the last batch."""
        sizes = [BATCH_BYTES // 2, BATCH_BYTES // 2, 1, 2 * BATCH_BYTES, 1, 1]
        large = [replace(event(n), payload=b"{}".ljust(size)) for n, size in enumerate(sizes)]
        self.client.cut()
        for each in large:
            self.outbox.add(each, 0)
        self.outbox.publish_state("up")
        self.outbox.save_metadata({"latest": "5"})
        latest: list[str | None] = []
        self.outbox.on_written = lambda written, _: self.written.append(written)
        self.redis.on_command = lambda _: latest.append(self.read_metadata("latest"))
        self.client.restore()
        self.redis.on_command = lambda _: None
        self.assertEqual([written.last for written in self.written], [2, 3, 4, 6])
        self.assertEqual(self.read_payloads(), [each.payload for each in large])
        self.assertEqual((set(latest), self.read_metadata("latest")), ({None}, "5"))
        self.assertEqual(done(self.log.read_state(0)).stream_state, "up")

    def read_metadata(self, name: str) -> str | None:
        """Return a value of the log's metadata."""
        value = self.redis.execute("HGET", METADATA_KEY, name)
        return None if value is None else str(value.decode())

    def test_changes_during_write_go_with_next_write(self) -> None:
        """One write at a time, each with everything that waits."""
        self.client.stop_replying()
        self.add(1)
        self.add(2)
        self.add(3)
        self.outbox.publish_state("up")
        self.outbox.save_metadata({"latest": "5"})
        self.client.restore()
        self.clock.advance(1.5)
        self.clock.advance(0.5)
        self.assertEqual(self.written, [WriteResult(3, 0)])
        self.assertEqual(done(self.log.read_state(0)).stream_state, "up")

    def test_event_read_back_after_lost_reply_is_not_written_again(self) -> None:
        """Only reading the log shows that the write was executed."""
        self.client.lose_reply()
        self.add(1)
        self.outbox.confirm(1, [event(1)])
        self.assertFalse(self.outbox.events.has(event(1)))
        self.add(2)
        self.clock.advance(0.5)
        self.assert_log(1, 2)
        self.assertEqual(self.written, [WriteResult(2, 0)])
        self.outbox.confirm(2)
        self.assertFalse(self.outbox.events.has(event(1)))

    def test_reconnect_writes_only_newest_metadata_and_state(self) -> None:
        """Newer metadata and stream states replace unwritten ones."""
        self.client.cut()
        for n in (1, 2):
            self.outbox.save_metadata({"latest": str(n)})
            self.outbox.publish_state(f"state {n}")
        self.client.restore()
        log_state = done(self.log.read_state(0))
        self.assertEqual((log_state.stream_state, log_state.metadata["latest"]), ("state 2", "2"))

    def test_fenced_write_changes_nothing_and_keeps_events(self) -> None:
        """Each write is rejected; the events stay, since this node may acquire the lease again."""
        done(self.log.release(self.token))
        self.add(1)
        self.add(2)
        self.assertEqual(self.rejected, [FENCED, FENCED])
        self.assert_log()
        self.assertEqual([self.outbox.events.has(event(n)) for n in (1, 2)], [True, True])

    def test_fenced_epoch_start_changes_nothing(self) -> None:
        """The other node's log stays."""
        self.add(1)
        done(self.log.release(self.token))
        self.outbox.begin_epoch(1, EpochStart("e1", 1, {**METADATA, "epoch": "e2"}))
        self.assertEqual(self.rejected, [FENCED])
        self.assert_log(1)

    def test_beginning_of_lost_log_that_is_there_again_is_rejected(self) -> None:
        """What waits is written to that log by the next term."""
        self.add(1)
        epoch_start = EpochStart("e1", 1, {**METADATA, "epoch": "e2"})
        self.outbox.begin_epoch(1, epoch_start, is_lost=True)
        self.assertEqual(self.rejected, [LOG_RETURNED])
        self.assert_log(1)

    def test_write_to_shortened_log_is_rejected(self) -> None:
        """The lost events must be found first."""
        dump = self.redis.dump()
        self.add(1)
        self.outbox.confirm(1)
        self.redis.roll_back(dump)
        self.add(2)
        self.assertEqual(self.rejected, [LOG_SHORTENED])
        self.assert_log()

    def test_next_term_writes_remaining_events_first(self) -> None:
        """The journal drops them before if another node led in between."""
        self.client.cut()
        self.add(1)
        self.outbox.stop()
        self.client.restore()
        self.acquire_lease()
        self.add(2)
        self.assert_log(1, 2)

    def test_full_outbox_accepts_nothing_until_next_term(self) -> None:
        """An event after the first missing one is rejected too, whatever its size."""
        self.client.cut()
        for n in range(16):
            self.assertTrue(self.outbox.add(replace(event(n), payload=b"x" * 2**20), 0))
        self.assertEqual(self.rejected, [])
        self.assertFalse(self.outbox.add(event(16), 0))
        self.client.restore()
        self.outbox.confirm(16)
        self.assertEqual(len(self.outbox.events), 0)
        self.assertFalse(self.outbox.add(event(17), 0))
        self.assertEqual(self.rejected, [FULL])
        self.outbox.stop()
        self.acquire_lease()
        self.assertTrue(self.outbox.add(event(16), 0))

    def test_when_written_fires_after_last_write_or_stop(self) -> None:
        """It fires at once if there is nothing to write."""
        self.successResultOf(self.outbox.when_written())
        self.client.cut()
        self.add(1)
        waiting = self.outbox.when_written()
        self.assertNoResult(waiting)
        self.client.restore()
        self.successResultOf(waiting)
        self.client.cut()
        self.add(2)
        waiting = self.outbox.when_written()
        self.outbox.stop()
        self.successResultOf(waiting)
        self.successResultOf(self.outbox.when_written())

    def test_when_saved_fires_after_the_write_that_has_the_metadata(self) -> None:
        """Not after one that had begun before, and not if events never pause."""
        self.assertTrue(self.successResultOf(self.outbox.when_saved()))
        self.add(1)  # Redis has the script then
        delay = ReplyDelay(self.client)
        self.add(2)
        self.outbox.save_metadata({"a": "1"})
        first = self.outbox.when_saved()
        delay.deliver()
        self.assertNoResult(first)
        self.outbox.save_metadata({"a": "2"})
        self.add(3)
        second = self.outbox.when_saved()
        delay.deliver()
        self.assertTrue(self.successResultOf(first))
        self.assertNoResult(second)
        self.add(4)
        delay.deliver()
        self.assertTrue(self.successResultOf(second))
        self.assertEqual(self.redis.execute("HGET", METADATA_KEY, "a"), b"2")
        delay.end()

    def test_when_saved_waits_for_the_metadata_of_a_running_write(self) -> None:
        """It is in no later write."""
        delay = ReplyDelay(self.client)
        self.outbox.save_metadata({"a": "1"})
        saved = self.outbox.when_saved()
        self.assertNoResult(saved)
        delay.end()
        self.assertTrue(self.successResultOf(saved))

    def test_when_saved_fires_with_false_if_writing_stops(self) -> None:
        """Whether a write without a reply has happened is unknown."""
        self.client.stop_replying()
        self.outbox.save_metadata({"a": "1"})
        saved = self.outbox.when_saved()
        self.outbox.stop()
        self.assertFalse(self.successResultOf(saved))
        self.assertFalse(self.successResultOf(self.outbox.when_saved()))

    def test_when_saved_waits_for_another_attempt(self) -> None:
        """A rejected write may be followed by one with another token."""
        self.redis.execute("HSET", LEASE_KEY, "token", "other")
        self.outbox.save_metadata({"a": "1"})
        saved = self.outbox.when_saved()
        self.assertNoResult(saved)
        self.assertEqual(set(self.rejected), {FENCED})
        self.redis.execute("HSET", LEASE_KEY, "token", self.token)
        self.outbox.flush()
        self.assertTrue(self.successResultOf(saved))

    def test_when_written_fires_after_rejected_write(self) -> None:
        """The end of a term does not wait for events that Redis does not accept."""
        done(self.log.release(self.token))
        self.outbox.add(event(1), 0)
        self.successResultOf(self.outbox.when_written())
        self.assertEqual(self.rejected, [FENCED])

    def test_metadata_saved_during_write_goes_with_next_write(self) -> None:
        """So does the stream state; the reply to the older values does not remove the newer."""
        delay = ReplyDelay(self.client)
        for n in (1, 2):
            self.outbox.save_metadata({"latest": str(n)})
            self.outbox.publish_state(f"state {n}")
        delay.end()
        self.assertEqual(self.read_metadata("latest"), "2")
        self.assertEqual(done(self.log.read_state(0)).stream_state, "state 2")

    def test_reply_of_earlier_term_is_ignored(self) -> None:
        """It says nothing about the log that the new term writes to: the event goes there again."""
        self.add(1)
        self.outbox.confirm(1)
        delay = ReplyDelay(self.client)
        self.add(2)
        self.outbox.stop()
        self.outbox.start(self.token + "0", 1)
        self.redis.execute("HSET", LEASE_KEY, "token", self.token + "0")
        delay.end()
        self.assertEqual(self.written, [WriteResult(1, 0), WriteResult(2, 1)])
        self.assertEqual(self.rejected, [])

    def test_internal_error_is_logged_and_writing_continues(self) -> None:
        """The next event is written."""

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        self.outbox.on_written = fail
        self.add(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.outbox.on_written = lambda written, _: self.written.append(written)
        self.add(2)
        self.assert_log(1, 2)
