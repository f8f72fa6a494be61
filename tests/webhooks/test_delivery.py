"""Tests for tradeproxy.webhooks.delivery and .service: what a receiver gets, and when."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

from msgspec.structs import replace as replace_fields
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from tests.support.accounts import AccountTestCase
from tests.support.journals import event, event_id_of, time_of
from tests.support.webhooks import OK, URL, MemoryReceiver, webhook_with
from tradeproxy.config.webhooks import WebhookSettings
from tradeproxy.hub.account import Account
from tradeproxy.hub.log_tail import LogTail
from tradeproxy.journal.base import Batch, Row, UnreadableError
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.runtime.dates import Dates
from tradeproxy.webhooks.delivery import REST
from tradeproxy.webhooks.message import _read_event, build_event_message
from tradeproxy.webhooks.positions import read_positions
from tradeproxy.webhooks.queue import UNWANTED_ROWS
from tradeproxy.webhooks.sender import ReceiverAnswer
from tradeproxy.webhooks.service import LOOK_INTERVAL, Webhooks
from tradeproxy.webhooks.state import DeliveryState
from tradeproxy.wire.event import format_time
from tradeproxy.wire.frame import Recovered, with_mark

HOUR = 3600.0
LOST = ReceiverAnswer(None, "connection refused")


class WebhookTestCase(AccountTestCase):
    """An account, and one process's webhooks after another's."""

    def setUp(self) -> None:
        super().setUp()
        self.receiver = MemoryReceiver()
        self.settings: tuple[WebhookSettings, ...] = (webhook_with(EVENTS="new,fill"),)
        self.webhooks = self.start()

    def start(self, node: str = "one") -> Webhooks:
        """Start the webhooks of a process."""
        webhooks = Webhooks(
            self.settings,
            {"paper": self.account},
            lambda _: self.receiver,
            node,
            self.clock,
            lambda: 1.0,
        )
        webhooks.startService()
        self.addCleanup(lambda: webhooks.running and webhooks.stopService())
        return webhooks

    def kill(self) -> None:
        """End the process without a stop: nothing is stored."""
        journal: Any = self.journal
        store, journal.set_metadata = journal.set_metadata, lambda *_, **__: None
        self.webhooks.stopService()
        journal.set_metadata = store

    def restart(self) -> None:
        """Stop as a process does, and start the next one."""
        self.webhooks.stopService()
        self.webhooks = self.start()

    def publish_now(self, *numbers: int, **fields: Any) -> None:
        """Receive events from Alpaca, each in a batch of its own; several until all are sent."""
        for n in numbers:
            self.account.publish(event(n, **fields))
            self.advance(0.01)
        if len(numbers) > 1:
            self.advance(REST)

    def advance(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass, as a reactor does."""
        for _ in range(max(round(seconds / step), 3)):
            self.clock.advance(min(step, seconds))

    def assert_sent(self, *numbers: int) -> None:
        """Assert that the requests so far are for these events."""
        self.assertEqual(self.receiver.ids, [event_id_of(n) for n in numbers])

    @property
    def stats(self) -> Any:
        """The state of the one delivery."""
        [stats] = self.webhooks.list_stats()
        return stats


class OrderTests(WebhookTestCase):
    """Every wanted event once, in order, if nothing fails."""

    def test_events_are_sent_in_their_order(self) -> None:
        """The first start begins with the next event: old ones would be a surprise."""
        self.publish_now(1, 2, 3)
        self.assert_sent(1, 2, 3)
        self.assertEqual((self.stats.sent, self.stats.state), (3, DeliveryState.READY))

    def test_only_one_request_is_in_flight(self) -> None:
        """A second one could overtake it."""
        self.receiver.default = None
        self.publish_now(1, 2)
        self.assert_sent(1)

    def test_lone_event_is_sent_at_once(self) -> None:
        """A person waits for it."""
        self.publish_now(1)
        self.assert_sent(1)
        self.advance(REST + LOOK_INTERVAL)
        self.publish_now(2)
        self.assert_sent(1, 2)

    def test_events_right_after_a_message_are_sent_together(self) -> None:
        """Each message leaves cold caches to the next event; a second later is soon enough."""
        self.publish_now(1)
        for n in (2, 3, 4):
            self.publish_now(n)
        self.assert_sent(1)
        self.clock.advance(LOOK_INTERVAL)
        self.advance(0.01)
        self.assert_sent(1, 2, 3, 4)

    def test_unwanted_events_are_left_out(self) -> None:
        """By kind, symbol and the beginning of client_order_id."""
        self.settings = (webhook_with(EVENTS="new", SYMBOLS="AAPL", PREFIX="bot-"),)
        self.webhooks.replace(self.settings)
        order = {"id": "o", "symbol": "AAPL", "client_order_id": "bot-1"}
        for n, (kind, change) in enumerate(
            (
                ("new", {}),
                ("canceled", {}),
                ("new", {"symbol": "MSFT"}),
                ("new", {"client_order_id": "hand-1"}),
                ("new", {}),
            )
        ):
            self.account.publish(event(n, event=kind, order={**order, **change}, order_id=f"o{n}"))
        self.advance(0.01)
        self.assert_sent(0, 4)

    def test_clients_have_the_event_before_the_receiver(self) -> None:
        """A slow receiver or a bug of a webhook must not delay a client."""
        self.publish(1)
        self.account.flush()
        self.assert_delivered([1])
        self.assertEqual(self.receiver.requests, [])


class RetryTests(WebhookTestCase):
    """Answers that are no success."""

    def test_failed_event_is_sent_again_before_the_next(self) -> None:
        """With the same id and the same content."""
        for failure in (
            LOST,
            ReceiverAnswer(500, "HTTP 500"),
            ReceiverAnswer(408, "HTTP 408"),
            ReceiverAnswer(302, "HTTP 302, which is not followed"),
        ):
            self.receiver.requests.clear()
            self.receiver.answers = [failure]
            self.publish_now(len(self.journal_ids()) + 1)
            self.advance(1.5 + REST)
            first, second = self.receiver.requests
            self.assertEqual(first.read_body(), second.read_body())

    def journal_ids(self) -> range:
        """Return one number per event that has been published."""
        return range(self.journal.last)

    def test_delay_doubles(self) -> None:
        """A receiver that is down for hours gets a request every five minutes."""
        self.receiver.default = LOST
        self.publish_now(1)
        counts = []
        for _ in range(4):
            counts.append(len(self.receiver.requests))
            self.advance(600)
        self.assertGreater(counts[1], 9)
        self.assertEqual([later - earlier for earlier, later in pairwise(counts[2:])], [2])

    def test_retry_after_is_obeyed(self) -> None:
        """A request before that would only prolong the limit."""
        self.receiver.answers = [ReceiverAnswer(429, "HTTP 429", 60.0)]
        self.publish_now(1)
        self.advance(59)
        self.assert_sent(1)
        self.advance(3)
        self.assert_sent(1, 1)

    def test_refused_event_is_skipped_and_counted(self) -> None:
        """A receiver that cannot read one event would hold up all others for a day."""
        self.receiver.answers = [ReceiverAnswer(400, "HTTP 400")]
        with capturedLogs() as logs:
            self.publish_now(1, 2)
        self.assert_sent(1, 2)
        self.assertEqual((self.stats.rejected, self.stats.sent), (1, 1))
        self.assertIn("is skipped: the receiver answers HTTP 400", formatEvent(logs[0]))

    def test_refused_url_stops_the_webhook_until_a_reload(self) -> None:
        """The event that was refused is the first one afterwards."""
        for status in (401, 403, 404, 410):
            self.receiver.requests.clear()
            self.receiver.answers = [ReceiverAnswer(status, f"HTTP {status}")]
            n = self.journal.last + 1
            with capturedLogs() as logs:
                self.publish_now(n, n + 1)
            self.advance(HOUR, 60)
            self.assert_sent(n)
            self.assertEqual(self.stats.state, DeliveryState.STOPPED)
            self.assertIn(
                f"webhook DESK: stopped: the receiver answers HTTP {status};"
                " correct PROXY_WEBHOOK_DESK_URL",
                " ".join(map(str, map(formatEvent, logs))),
            )
            self.assertTrue(self.webhooks.replace(self.settings))
            self.advance(0.01)
            self.assert_sent(n, n, n + 1)

    def test_restart_tries_a_refused_url_again(self) -> None:
        """The operator may have corrected it on the receiver's side."""
        self.receiver.answers = [ReceiverAnswer(401, "HTTP 401")]
        self.publish_now(1)
        self.restart()
        self.advance(0.01)
        self.assert_sent(1, 1)

    def test_first_failure_and_its_end_are_logged(self) -> None:
        """Not every attempt: a receiver can be down for a night."""
        self.receiver.answers = [LOST] * 5
        with capturedLogs() as logs:
            self.publish_now(1)
            self.advance(60)
        lines = [formatEvent(each) for each in logs]
        self.assertEqual(len(lines), 2, lines)
        self.assertIn("not sent: connection refused; next attempt in 1 s (1 so far)", lines[0])
        self.assertIn("sent after 5 failed attempts", lines[1])
        self.assertNotIn("hush", " ".join(map(str, lines)))


class SharedReadingTests(WebhookTestCase):
    """Several webhooks of several accounts."""

    def test_look_reads_each_event_once(self) -> None:
        """One frame of 1 MiB can take 0.2 s: 20 webhooks of two accounts stopped all for 8 s."""
        accounts = {f"a{n}": Account(f"a{n}", self.open(), self.clock) for n in range(6)}
        webhooks = Webhooks(
            [replace(self.settings[0], name=f"W{n}") for n in range(3)],
            accounts,
            lambda _: self.receiver,
            "one",
            self.clock,
            lambda: 1.0,
        )
        webhooks.startService()
        self.addCleanup(webhooks.stopService)
        for n in (1, 2):  # the second one comes right after a message, and waits for the look
            for k, account in enumerate(accounts.values()):
                account.publish(event(10 * n + k))
            before = _read_event.cache_info().misses
            self.advance(0.01)
        self.assertEqual(len(self.receiver.requests), 18)
        self.clock.advance(LOOK_INTERVAL)
        self.assertEqual(_read_event.cache_info().misses - before, 6)
        self.advance(0.01)
        self.assertEqual(len(self.receiver.requests), 36)

    def test_accounts_in_turn_read_each_event_once(self) -> None:
        """The answers of their receivers come in any order."""
        frames = [event(n).payload for n in range(100, 104)]
        before = _read_event.cache_info().misses
        for payload in frames * 3:
            build_event_message("paper", payload, "row", None, 0)
        self.assertEqual(_read_event.cache_info().misses - before, 4)


class LargeEventTests(WebhookTestCase):
    """Events of nearly 1 MiB, of which each webhook kept several copies."""

    def publish_large(self, n: int) -> None:
        """Receive a large event, which reaches the disk."""
        self.publish_now(n, pad="x" * 900_000)
        self.account.flush()

    def test_hanging_receiver_costs_no_body(self) -> None:
        """Twenty webhooks of four accounts took 240 MB."""
        [webhook] = self.settings
        self.webhooks.replace([replace(webhook, name=f"W{n}") for n in range(20)])
        self.receiver.default = None
        self.advance(REST)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.publish_large(1)
        self.advance(REST)
        self.assertEqual(len(self.receiver.requests), 20)
        self.assertLess(tracemalloc.get_traced_memory()[0], 8_000_000)

    def test_failing_receiver_costs_no_body(self) -> None:
        """What waits for the next attempt is in the log, and every attempt has the same body."""
        self.receiver.answers = [LOST] * 3
        self.publish_large(1)
        self.publish_now(2)
        self.advance(10)
        self.assert_sent(1, 1, 1, 1, 2)
        bodies = {request.read_body() for request in self.receiver.requests[:4]}
        self.assertEqual([len(body) > 900_000 for body in bodies], [True])
        self.assertEqual(len(self.receiver.documents[0]["data"]["pad"]), 900_000)

    def test_text_of_a_large_event_is_sent(self) -> None:
        """It is made of some fields only."""
        self.settings = (webhook_with(EVENTS="new", FORMAT="ntfy"),)
        self.webhooks.replace(self.settings)
        self.publish_large(1)
        [request] = self.receiver.requests
        self.assertLess(request.length, 500)

    def test_large_event_of_a_replaced_log_is_skipped(self) -> None:
        """Another event has its number there. The message of that one says that one is missing."""
        self.account.identify("one")
        self.receiver.default = LOST
        self.publish_large(1)
        self.advance(30)
        self.receiver.requests.clear()
        self.receiver.default = OK
        self.account.identify("another")
        self.publish_large(40)
        self.advance(60)
        [document] = self.receiver.documents
        self.assertEqual((document["id"], document["skipped"]["count"]), (event_id_of(40), 1))

    def test_another_event_under_its_number_is_sent_as_itself(self) -> None:
        """A row may be damaged meanwhile, or a log in Redis reuse a number."""
        self.receiver.answers = [LOST]
        self.publish_large(1)
        [first] = self.receiver.requests
        journal: Any = self.journal
        journal.read = lambda *_, **__: None
        self.assertRaises(UnreadableError, first.read_body)
        other = Row(1, event(2, pad="y" * 950_000).payload, time_of(2))
        journal.read = lambda after, *_, **__: Batch((other,)) if after == 0 else None
        self.assertRaises(UnreadableError, first.read_body)
        self.advance(5)
        [_, second] = self.receiver.requests
        document = json.loads(second.read_body())
        self.assertEqual((document["id"], document["data"]["event_id"]), (event_id_of(2),) * 2)
        self.assertNotIn("skipped", document)

    def test_log_that_cannot_be_read_repeats_the_attempt_later(self) -> None:
        """A disk that fails during the backoff loses no event."""
        self.receiver.answers = [LOST]
        self.publish_large(1)
        journal: Any = self.journal
        read = journal.read

        def fail(*_: Any, **__: Any) -> None:
            raise UnreadableError

        journal.read = fail
        self.advance(5)
        self.assertEqual(len(self.receiver.requests), 1)
        journal.read = read
        self.advance(5)
        self.assert_sent(1, 1)


class PositionTests(WebhookTestCase):
    """What a restart continues with."""

    def test_restart_repeats_nothing_that_was_accepted(self) -> None:
        """The position is stored at the stop."""
        self.publish_now(1, 2)
        self.webhooks.stopService()
        self.publish_now(3)
        self.webhooks = self.start()
        self.advance(0.01)
        self.assert_sent(1, 2, 3)

    def test_killed_process_loses_nothing(self) -> None:
        """Its last events are sent again: at least once."""
        self.publish_now(1)
        self.advance(REST)
        self.receiver.answers = [OK, None]
        self.account.publish(event(2))
        self.account.publish(event(3))
        self.advance(0.01)
        self.kill()
        self.webhooks = self.start()
        self.advance(0.01)
        self.assert_sent(1, 2, 3, 2, 3)

    def test_request_in_flight_is_cut_off_by_the_stop(self) -> None:
        """The stop does not wait for a receiver that hangs."""
        self.receiver.default = None
        self.publish_now(1)
        self.successResultOf(self.webhooks.stopService())
        self.assertEqual(self.receiver.cancelled, 1)

    def test_position_is_stored_at_most_once_a_second(self) -> None:
        """A storing takes a tenth of a millisecond."""
        stored = []
        journal: Any = self.journal
        store = journal.set_metadata

        def record(*args: Any, **options: Any) -> None:
            stored.append(args)
            store(*args, **options)

        journal.set_metadata = record
        for n in range(20):
            self.publish_now(n)
        self.assertLessEqual(len(stored), 2)
        self.advance(2)
        self.assertEqual(read_positions(self.account)["DESK"].cursor, self.account.cursor_at(20))

    def test_unwanted_events_are_seldom_stored(self) -> None:
        """A webhook for fills costs nothing while orders are placed."""
        self.advance(LOOK_INTERVAL)
        before = self.journal.get_metadata("webhooks")
        self.publish_now(1, event="canceled")
        self.advance(30)
        self.assertEqual(self.journal.get_metadata("webhooks"), before)
        for n in range(UNWANTED_ROWS):
            self.account.publish(event(n + 2, event="canceled", order_id=f"x{n}"))
        self.advance(2)
        self.assertNotEqual(self.journal.get_metadata("webhooks"), before)

    def test_webhook_that_is_removed_leaves_no_position_after_a_day(self) -> None:
        """Otherwise one of the same name would begin with a week of old events."""
        self.publish_now(1)
        self.advance(LOOK_INTERVAL)
        self.webhooks.replace([replace(self.settings[0], name="OTHER")])
        self.assertEqual(list(read_positions(self.account)), ["DESK", "OTHER"])
        self.publish_now(2)
        self.clock.advance(25 * HOUR)
        self.assertEqual(list(read_positions(self.account)), ["OTHER"])
        self.advance(LOOK_INTERVAL * 2)
        self.receiver.requests.clear()
        self.webhooks.replace(self.settings)
        self.publish_now(90_000)
        self.assert_sent(90_000)

    def test_webhook_that_is_missing_for_a_moment_continues(self) -> None:
        """A reload read a file that was half written, and what was unsent was lost silently."""
        self.receiver.default = LOST
        self.publish_now(1, 2)
        with capturedLogs() as logs:
            self.webhooks.replace(())
        self.assertEqual(
            [formatEvent(each) for each in logs],
            [
                "webhook DESK: paper: no longer in the settings, with up to 2 events unsent; if it"
                " returns within a day, it continues with them"
            ],
        )
        self.publish_now(3)
        self.receiver.default = OK
        self.receiver.requests.clear()
        with capturedLogs() as logs:
            self.webhooks.replace(self.settings)
            self.advance(5)
        self.assert_sent(1, 2, 3)
        self.assertEqual(logs, [])
        self.assertIsNone(read_positions(self.account)["DESK"].removed)

    def test_webhook_that_is_missing_at_the_start_is_warned_about_once(self) -> None:
        """Only the log says that there was one. A second start repeats nothing."""
        self.receiver.default = LOST
        self.publish_now(1)
        settings, self.settings = self.settings, ()
        with capturedLogs() as logs:
            self.restart()
            self.restart()
        [line] = [formatEvent(each) for each in logs]
        self.assertIn("webhook DESK: paper: no longer in the settings, with up to 1 event ", line)
        self.settings, self.receiver.default = settings, OK
        self.receiver.requests.clear()
        self.restart()
        self.advance(5)
        self.assert_sent(1)

    def test_webhook_that_has_sent_everything_is_removed_silently(self) -> None:
        """The reload names what has changed."""
        self.publish_now(1, 2)
        self.advance(LOOK_INTERVAL * 2)
        with capturedLogs() as logs:
            self.webhooks.replace(())
        self.assertEqual(logs, [])

    def test_webhook_that_is_removed_after_its_events_counts_those_in_the_log(self) -> None:
        """Its position is no longer in the log, so all of that may be unsent."""
        self.receiver.default = LOST
        self.publish_now(1, 2)
        self.account.set_metadata("webhooks", '{"OTHER": {"cursor": "x"}}', is_urgent=False)
        with capturedLogs() as logs:
            self.restart()
        [line] = [formatEvent(each) for each in logs if "no longer" in formatEvent(each)]
        self.assertIn("webhook OTHER: paper: no longer in the settings, with up to 2 ev", line)

    def test_log_of_another_account_continues_with_its_events(self) -> None:
        """The rows of the account before are set aside; one that is being sent stays."""
        self.account.identify("one")
        self.receiver.answers = [LOST]
        self.publish_now(1)
        self.publish_now(2)
        self.account.identify("another")
        self.publish_now(3)
        self.advance(5)
        self.assertEqual(list(dict.fromkeys(self.receiver.ids)), [event_id_of(n) for n in (1, 3)])

    def test_unreadable_log_is_read_again(self) -> None:
        """After the disk works again, the events follow."""
        journal: Any = self.journal
        read = journal.read

        def fail(*_: Any, **__: Any) -> None:
            raise UnreadableError

        journal.read = fail
        self.publish_now(1)
        self.advance(5)
        self.assert_sent()
        journal.read = read
        self.advance(5)
        self.assert_sent(1)


class FirstStartTests(WebhookTestCase):
    """A webhook that is new, and a log that cannot be read."""

    def test_old_events_are_not_sent(self) -> None:
        """Once the disk works again, the webhook begins with the next event."""
        self.webhooks.replace(())
        self.publish_now(1)
        attempts = []
        start = LogTail.start

        def fail_once(tail: LogTail, position: Any) -> None:
            attempts.append(position)
            if len(attempts) == 1:
                raise UnreadableError
            start(tail, position)

        self.patch(LogTail, "start", fail_once)
        self.webhooks.replace([replace(self.settings[0], name="NEW")])
        self.advance(2)
        self.publish_now(2)
        self.assert_sent(2)


class SkippedTests(WebhookTestCase):
    """Events that are not sent, and the message after them."""

    def test_events_older_than_a_day_are_skipped_and_reported(self) -> None:
        """How many, and from when to when."""
        self.receiver.default = LOST
        self.publish_now(1, 2, 3)
        self.advance(25 * HOUR, 60)
        self.receiver.default = OK
        self.receiver.requests.clear()
        self.publish_now(90_000)
        self.advance(301, 10)
        [document] = self.receiver.documents
        self.assertEqual(
            document["skipped"],
            {
                "count": 3,
                "from": format_time(time_of(1)),
                "until": format_time(time_of(3)),
            },
        )
        self.assertEqual(self.stats.skipped, 3)
        self.publish_now(90_001)
        self.assertNotIn("skipped", self.receiver.documents[-1])

    def test_event_waits_while_the_date_is_unknown(self) -> None:
        """A machine whose clock is years ahead would skip everything that it has missed."""
        self.receiver.default = LOST
        self.publish_now(1)
        self.webhooks.stopService()
        self.clock.advance(25 * HOUR)
        self.receiver.requests.clear()
        self.receiver.default = OK
        dates = self.account.dates = self.journal.dates = Dates(
            self.clock.seconds, self.clock.seconds
        )
        self.webhooks = self.start()
        self.advance(5)
        self.assertEqual((self.stats.skipped, self.receiver.requests), (0, []))
        dates.observe(self.clock.seconds())
        self.advance(5)
        self.assertEqual((self.stats.skipped, self.receiver.requests), (1, []))

    def test_restart_counts_skipped_events_once(self) -> None:
        """The position stays before them until a message has reported them."""
        self.receiver.default = LOST
        self.publish_now(1, 2)
        self.advance(25 * HOUR, 60)
        self.restart()
        self.receiver.requests.clear()
        self.receiver.default = OK
        self.publish_now(90_000)
        self.advance(301, 10)
        self.assertEqual(self.receiver.documents[0]["skipped"]["count"], 2)

    def test_hole_counts_as_skipped(self) -> None:
        """Its events were delivered while the disk was full, and are stored nowhere."""
        journal: Any = self.journal
        read = journal.read

        def read_holes(after: int, limit: int, **_: Any) -> Any:
            batch = read(after, limit)
            if batch is not None:
                batch.rows = tuple(
                    Row(row.seq, None, row.time) if row.seq == 1 else row for row in batch.rows
                )
            return batch

        journal.read = read_holes
        self.publish_now(1, 2)
        [document] = self.receiver.documents
        self.assertEqual(document["skipped"]["count"], 1)

    def test_late_event_of_a_recovery_is_marked(self) -> None:
        """A fill of two hours ago is no reason to act now; one of a minute ago may be."""
        self.clock.advance(2 * HOUR)
        for n, is_late in ((1, True), (7190, False)):
            found = event(n)
            marked = with_mark(found.payload, Recovered.EVENTS)
            self.account.publish_recovered(replace_fields(found, payload=marked))
            self.advance(REST)
            document = self.receiver.documents[-1]
            self.assertEqual((document["recovered"], document["late"]), ("events", is_late))


class TrimmedTests(AccountTestCase):
    """A log that keeps two events."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open(max_events=2)
        self.account = Account("paper", self.journal, self.clock)
        self.receiver = MemoryReceiver()
        self.receiver.default = LOST

    def start(self) -> Webhooks:
        """Return the deliveries of one webhook; they have begun."""
        webhooks = Webhooks(
            (webhook_with(EVENTS="new"),),
            {"paper": self.account},
            lambda _: self.receiver,
            "one",
            self.clock,
            lambda: 1.0,
        )
        webhooks.startService()
        return webhooks

    def test_trimmed_events_are_reported(self) -> None:
        """They were trimmed while the receiver was down."""
        webhooks = self.start()
        for n in range(1, 41):
            self.account.publish(event(n))
            self.account.flush()
        self.clock.advance(0)
        self.clock.advance(TRIM_EVERY)
        webhooks.stopService()
        self.receiver.requests.clear()
        self.receiver.default = OK
        webhooks.startService()
        for _ in range(10):
            self.clock.advance(0.1)
        self.assertEqual(self.receiver.ids, [event_id_of(39), event_id_of(40)])
        self.assertEqual(self.receiver.documents[0]["skipped"]["count"], 38)
        webhooks.stopService()

    def test_large_event_that_is_trimmed_before_an_attempt_is_skipped(self) -> None:
        """Its body is in the log alone. It counts as skipped, once."""
        webhooks = self.start()
        self.addCleanup(webhooks.stopService)
        for n in range(1, 41):
            self.account.publish(event(n, pad="x" * (100_000 if n == 1 else 10)))
            self.account.flush()
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual(len(self.receiver.requests), 1)
        self.clock.advance(TRIM_EVERY)
        self.receiver.requests.clear()
        self.receiver.default = OK
        for _ in range(60):
            self.clock.advance(0.1)
        self.assertEqual(self.receiver.ids, [event_id_of(39), event_id_of(40)])
        self.assertEqual(self.receiver.documents[0]["skipped"]["count"], 38)


class ReplaceTests(WebhookTestCase):
    """A reload."""

    def test_same_settings_change_nothing(self) -> None:
        """A request in flight is not cut off."""
        self.receiver.default = None
        self.publish_now(1)
        self.assertFalse(self.webhooks.replace((webhook_with(EVENTS="new,fill"),)))
        self.assertEqual(self.receiver.cancelled, 0)

    def test_changed_settings_continue_at_the_position(self) -> None:
        """Neither is an event repeated nor one lost."""
        self.publish_now(1)
        self.assertTrue(self.webhooks.replace((webhook_with(URL=f"{URL}2", EVENTS="new"),)))
        self.publish_now(2)
        self.assert_sent(1, 2)
        self.assertEqual(self.stats.sent, 2)

    def test_wider_settings_send_no_event_that_was_passed_over(self) -> None:
        """The position behind unwanted events is seldom stored, and the reload continued there.

        So the receiver got events of the hour before, which it had not asked for then.
        """
        self.advance(LOOK_INTERVAL)
        for n in range(1, 4):
            self.publish_now(n, event="canceled")
        self.advance(30)
        self.webhooks.replace((webhook_with(EVENTS="new,fill,canceled"),))
        self.publish_now(4, event="canceled")
        self.assert_sent(4)

    def test_removed_webhook_sends_nothing_more(self) -> None:
        """It has no state any more either."""
        self.webhooks.replace(())
        self.publish_now(1)
        self.assertEqual((self.receiver.requests, self.webhooks.list_stats()), ([], []))

    def test_without_webhook_no_timer_runs(self) -> None:
        """One woke an idle process every second, which cost as much as an event."""
        clock = Clock()
        webhooks = Webhooks(
            (), {"paper": self.account}, lambda _: self.receiver, "one", clock, lambda: 1.0
        )
        webhooks.startService()
        self.addCleanup(webhooks.stopService)
        self.assertEqual(clock.getDelayedCalls(), [])
        webhooks.replace(self.settings)
        self.assertNotEqual(clock.getDelayedCalls(), [])
        webhooks.replace(())
        self.assertEqual(clock.getDelayedCalls(), [])
