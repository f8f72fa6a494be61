"""The recovery against the simulator: outages of every kind, in memory and in fake time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import memory_journal
from tests.support.memory import MemoryEndpoint, fake_time, simulator
from tests.upstream.support import BASE_URL, KEYS, MemoryHost, http_client
from tradeproxy.accounts import AccountSettings, BaseUrl
from tradeproxy.hub.account import Account
from tradeproxy.hub.journal import Burst
from tradeproxy.recoverysettings import RecoveryMode, RecoverySettings
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.history import Record
from tradeproxy.upstream.backoff import Backoff
from tradeproxy.upstream.budget import Budget
from tradeproxy.upstream.client import UpstreamFactory
from tradeproxy.upstream.recovery import Recovery
from tradeproxy.upstream.rest import RestClient
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.wire.event import format_time
from tradeproxy.wire.messages import Dialect
from tradeproxy.wire.status import Gap, Outcome

INTERVAL = 900.0
BROKEN = Record(b"nonsense", 0, 8, 1_800_000_002_500_000_000, None, None)
"""An entry of the history that is no JSON."""


class Reader:
    """A subscriber that keeps the frames that it is given."""

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def deliver(self, burst: Burst) -> None:
        self.frames += [json.loads(row.payload) for row in burst.rows if row.payload is not None]

    def announce(self, status: bytes) -> None:
        pass

    def sever(self) -> None:
        raise AssertionError("nothing here fails")


class BreakableBudget(Budget):
    """A budget with a mistake in it, once it is broken."""

    broken = False

    def delay(self, now: float) -> float:
        if self.broken:
            raise ZeroDivisionError
        return super().delay(now)


class RecoveryTestCase(SynchronousTestCase):
    """An account with a recovery, whose Alpaca is the simulator; it has streamed and told of event 0."""

    mode = RecoveryMode.AUTO

    def setUp(self) -> None:
        self.clock = fake_time(self)
        self.alpaca = simulator(self.clock, credentials=KEYS)
        self.wire = MemoryEndpoint(self.alpaca, self.clock)
        self.host = MemoryHost(self.alpaca.site, self.wire)
        self.journal = memory_journal(self.clock)
        self.addCleanup(self.journal.close)
        self.account = Account("paper", self.journal, self.clock)
        self.reader = Reader()
        self.account.broadcaster.register(self.reader)
        self.service = self.new_service()
        self.service.startService()
        self.addCleanup(self.stop)
        self.advance(1)
        self.emit(0)
        self.advance(1)

    def new_service(self) -> UpstreamService:
        self.budget = BreakableBudget()
        rest = RestClient(http_client(self.host, self.clock), BASE_URL, KEYS, self.clock, self.budget)
        recovery = Recovery(self.account, rest, RecoverySettings(self.mode, 5.0, INTERVAL), self.clock)
        settings = AccountSettings(
            "paper", BaseUrl.parse(BASE_URL), KEYS, Dialect.AUTHENTICATE, "ALPACA_API_KEY"
        )
        return UpstreamService(
            self.account,
            self.wire,
            UpstreamFactory(settings, self.account, recovery, self.clock),
            recovery,
            Backoff(lambda: 1.0),
            self.clock,
        )

    def advance(self, seconds: float) -> None:
        self.wire.advance(seconds)

    def stop(self) -> Deferred[None] | None:
        if not self.service.running:
            return None
        stopped = self.service.stopService()
        self.advance(5)
        return stopped

    def emit(self, *numbers: int) -> None:
        """Let events happen now, whether or not anybody listens."""
        for number in numbers:
            at = format_time(round(self.clock.seconds() * 1_000_000))
            order = {"id": f"order {number}", "status": "new", "filled_qty": "0"}
            event = {"at": at, "event_id": f"event {number}", "event": "new", "n": number, "order": order}
            self.alpaca.emit(event)

    def inject(self, kind: FaultKind, **details: Any) -> None:
        self.alpaca.inject(Fault(kind, **details))

    def outage(self, happens: Callable[[], object], seconds: float = 2.0) -> None:
        """Let the connection drop, something happen while it is down, and the connection come back."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(0.5)
        happens()
        self.advance(seconds)
        self.wire.refusing = False
        while not self.alpaca.listening:
            self.advance(0.25)

    def told(self) -> list[tuple[int, str | None]]:
        """Return the numbers of the events that a client had, each with its mark."""
        return [(frame["data"]["n"], frame.get("recovered")) for frame in self.reader.frames]

    @property
    def gap(self) -> Gap:
        """The last gap."""
        return tuple(self.account.gaps)[-1]


class HistoryTests(RecoveryTestCase):
    """What was missed comes from the history of events."""

    def test_what_was_missed_comes_once_and_before_what_is_newer(self) -> None:
        """The missed events arrive in their place and without a mark."""
        self.outage(lambda: self.emit(1, 2, 3))
        self.emit(4)
        self.advance(2)
        self.emit(5)
        self.advance(0)
        self.assertEqual(self.told(), [(n, None) for n in range(6)])
        self.assertEqual((self.gap.outcome, self.gap.events), (Outcome.RECOVERED, 3))
        self.assertIsNone(self.account.gaps.current)

    def test_the_very_first_stream_waits_for_nothing(self) -> None:
        """Before it there is nothing to miss, so Alpaca is not even asked."""
        self.assertEqual(self.told(), [(0, None)])
        self.assertEqual(tuple(self.account.gaps), ())

    def test_an_outage_without_events_ends_without_any(self) -> None:
        """Known events of the overlap are no news, and no duplicates."""
        self.outage(lambda: None)
        self.advance(2)
        self.assertEqual(self.told(), [(0, None)])
        self.assertEqual((self.gap.outcome, self.gap.events), (Outcome.RECOVERED, 0))
        self.assertEqual(self.journal.duplicates, 0)

    def test_the_account_is_identified(self) -> None:
        """Alpaca's id of the account is in the journal: with other keys, it begins anew."""
        epoch = self.journal.epoch
        self.outage(lambda: None)
        self.advance(2)
        self.assertEqual(self.journal.epoch, epoch)
        self.journal.identify("another")
        self.assertNotEqual(self.journal.epoch, epoch)

    def test_the_log_says_how_it_ended(self) -> None:
        """One line: account, outcome, count and seconds."""
        with capturedLogs() as logs:
            self.outage(lambda: self.emit(1, 2))
            self.advance(2)
        lines = [line for event in logs if "recovery" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], r"paper: recovery ended: recovered, 2 missed events in [0-9.]+ s$")

    def test_a_truncated_history_is_continued(self) -> None:
        """A response that is cut off is asked for again from where it broke."""
        self.inject(FaultKind.HISTORY_TRUNCATE, events=3)
        self.outage(lambda: self.emit(*range(1, 8)))
        self.advance(4)
        self.assertEqual(self.told(), [(n, None) for n in range(8)])
        self.assertEqual((self.gap.outcome, self.gap.events), (Outcome.RECOVERED, 7))

    def test_a_history_that_left_something_out_is_asked_for_again(self) -> None:
        """Alpaca says so in a comment; the response is worth nothing from there on."""
        self.inject(FaultKind.HISTORY_DROP, events=2, dropped=3)
        self.outage(lambda: self.emit(*range(1, 8)))
        self.advance(4)
        self.assertEqual(self.told(), [(n, None) for n in range(8)])

    def test_events_that_are_no_json_are_counted(self) -> None:
        """They cost nothing but themselves."""

        def happens() -> None:
            self.emit(1)
            self.alpaca.history.append(BROKEN)
            self.emit(2)

        self.outage(happens)
        self.advance(2)
        self.assertEqual([n for n, _ in self.told()], [0, 1, 2])
        self.assertEqual(self.account.dropped.total(), 1)

    def test_a_history_that_starts_again_after_503_is_waited_for(self) -> None:
        """Within the deadline nothing is late; the pause is the one that Alpaca asked for."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, retry_after=3)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(2.5)
        self.assertEqual(self.told(), [(0, None)])
        self.advance(2)
        self.assertEqual(self.told(), [(0, None), (1, None), (2, None)])

    def test_a_second_outage_during_the_recovery_begins_it_anew(self) -> None:
        """Held events are kept over it, and all that was missed in both comes in order."""
        self.inject(FaultKind.HISTORY_DELAY, delay=3)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0.5)
        self.outage(lambda: self.emit(3), 0.5)
        self.emit(4)
        self.advance(3)
        self.assertEqual(self.told(), [(n, None) for n in range(5)])
        self.assertEqual((self.gap.outcome, len(tuple(self.account.gaps))), (Outcome.RECOVERED, 1))

    def test_another_process_goes_on_where_the_last_one_was(self) -> None:
        """What happened while no proxy ran is recovered, too."""
        self.stop()
        self.emit(1, 2)
        self.advance(30)
        self.account = Account("paper", self.journal, self.clock)
        self.account.broadcaster.register(self.reader)
        self.service = self.new_service()
        self.service.startService()
        self.advance(2)
        self.assertEqual(self.told(), [(0, None), (1, None), (2, None)])


class LateTests(RecoveryTestCase):
    """Newer events don't wait longer than the deadline."""

    def test_past_the_deadline_what_was_missed_comes_late_and_marked(self) -> None:
        """Newer events go first, the gap is open and says why; in the end it is recovered all the same."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=12.0)
        self.outage(lambda: self.emit(1, 2))
        self.emit(3)
        with capturedLogs() as logs:
            self.advance(4.5)
            self.assertEqual(self.told(), [(0, None)])
            self.advance(1)
        self.assertEqual(self.told(), [(0, None), (3, None)])
        self.assertEqual((self.gap.outcome, self.gap.reason), (Outcome.OPEN, "HTTP 503"))
        lines = [line for event in logs if "late" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0].endswith("HTTP 503"), lines)
        self.emit(4)
        self.advance(20)
        self.assertEqual(self.told(), [(0, None), (3, None), (4, None), (1, "events"), (2, "events")])
        self.assertEqual((self.gap.outcome, self.gap.events), (Outcome.RECOVERED, 2))

    def test_a_mute_alpaca_is_no_reason_to_wait(self) -> None:
        """The deadline counts from the stream's return, whatever the requests do."""
        self.host.hanging = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(5.5)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual(self.gap.reason, "Alpaca takes longer than 5 s")
        self.host.hanging = False
        self.advance(60)
        self.assertEqual(self.told(), [(0, None), (2, None), (1, "events")])

    def test_held_events_outlive_a_connection_but_not_the_deadline(self) -> None:
        """A stream that is lost again takes nothing along."""
        self.inject(FaultKind.HISTORY_DELAY, delay=60)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(3.5)
        self.assertEqual(self.told(), [(0, None)])
        self.advance(1)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual((self.gap.outcome, self.gap.reason), (Outcome.OPEN, "the stream was lost again"))

    def test_a_deadline_without_held_events_opens_no_gap(self) -> None:
        """While the stream is down nothing newer goes by, so nothing will be late."""
        self.inject(FaultKind.HISTORY_DELAY, delay=60)
        self.outage(lambda: self.emit(1))
        self.advance(1)
        self.outage(lambda: self.emit(2), 10)
        self.assertEqual(self.gap.outcome, Outcome.PENDING)
        self.emit(3)
        self.advance(3)
        self.assertEqual(self.told(), [(n, None) for n in range(4)])

    def test_a_mistake_of_our_own_holds_up_nobody(self) -> None:
        """It is logged, the gap stays open, and newer events go on at once."""
        self.budget.broken = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual(
            (self.gap.outcome, self.gap.reason),
            (Outcome.OPEN, "an error of the proxy's own: see its log"),
        )

    def test_only_what_is_older_than_what_was_delivered_is_marked(self) -> None:
        """After another outage the events of the first are late, those of the second are not."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=10.0)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(5.5)
        self.outage(lambda: self.emit(3), 10)
        self.emit(4)
        self.advance(4)
        self.assertEqual(self.told(), [(0, None), (2, None), (1, "events"), (3, None), (4, None)])
        self.assertEqual((self.gap.outcome, self.gap.events), (Outcome.RECOVERED, 2))


class RefusedTests(RecoveryTestCase):
    """Modes in which the history is all that is asked for."""

    mode = RecoveryMode.EVENTS

    def test_a_refused_history_is_a_lost_gap(self) -> None:
        """Nothing waits for what will never come, and the reason is told."""
        self.inject(FaultKind.HISTORY_REFUSE, status=403)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0.5)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual(
            (self.gap.outcome, self.gap.reason), (Outcome.LOST, "the history is refused: HTTP 403")
        )


class OffTests(RecoveryTestCase):
    """No recovery at all."""

    mode = RecoveryMode.OFF

    def test_nothing_waits_and_the_gap_is_lost(self) -> None:
        """Clients are told that there is a hole, and why."""
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual((self.gap.outcome, self.gap.reason), (Outcome.LOST, "recovery is off"))


class CheckTests(RecoveryTestCase):
    """A healthy stream is checked now and then."""

    def drop_silently(self, number: int) -> None:
        """Let an event happen of which the stream says nothing."""
        self.inject(FaultKind.SILENCE, seconds=0.5)
        self.emit(number)
        self.advance(1)

    def test_what_a_healthy_stream_left_out_is_delivered_late(self) -> None:
        """It is found at the next check, and the log says how much it was."""
        self.drop_silently(1)
        self.emit(2)
        with capturedLogs() as logs:
            self.advance(INTERVAL)
        self.assertEqual(self.told(), [(0, None), (2, None), (1, "events")])
        lines = [line for event in logs if "left out" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertIn("left out 1 events", lines[0])
        with capturedLogs() as logs:
            self.advance(5 * INTERVAL)
        self.assertEqual(logs, [])
        self.assertEqual(len(self.told()), 3)

    def test_secrets_stay_out_of_what_is_logged(self) -> None:
        """Neither keys nor URLs, however the requests fail."""
        self.host.refusing = True
        with capturedLogs() as logs:
            self.outage(lambda: self.emit(1))
            self.advance(INTERVAL)
        text = "".join(f"{event}" for event in logs)
        self.assertIn("cannot connect", text)
        for secret in ("PKUPSTREAM", "upstream-secret", "/v2/", "since="):
            self.assertNotIn(secret, text)

    def test_a_check_that_fails_is_left_to_the_next_and_logged_once(self) -> None:
        """A history that is away for hours is one line, and the events come when it is back."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=3 * INTERVAL)
        self.drop_silently(1)
        with capturedLogs() as logs:
            self.advance(2.5 * INTERVAL)
        self.assertEqual(len(logs), 1)
        self.assertIn("HTTP 503", formatEvent(logs[0]) or "")
        self.assertEqual(self.told(), [(0, None)])
        self.advance(2 * INTERVAL)
        self.assertEqual(self.told(), [(0, None), (1, "events")])


class StopTests(RecoveryTestCase):
    """The end, wherever the recovery stands."""

    def assert_ends(self) -> None:
        stopped = self.service.stopService()
        self.advance(3)
        assert stopped is not None
        self.successResultOf(stopped)
        self.advance(0)
        self.journal.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stop_during_a_request(self) -> None:
        """The request is given up, what was held is in the journal, and the gap is still open there."""
        self.host.hanging = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.assert_ends()
        self.assertEqual([n for n, _ in self.told()], [0, 2])
        self.assertIsNotNone(self.account.gaps.current)

    def test_a_stop_between_two_attempts(self) -> None:
        """No attempt follows."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=1000.0)
        self.outage(lambda: self.emit(1))
        self.advance(20)
        self.assert_ends()

    def test_a_stop_during_the_response(self) -> None:
        """The history is left in the middle."""
        self.inject(FaultKind.HISTORY_DELAY, delay=30)
        self.outage(lambda: self.emit(1))
        self.advance(2)
        self.assert_ends_but_for_alpaca()

    def assert_ends_but_for_alpaca(self) -> None:
        self.alpaca.feeds.end()
        self.assert_ends()

    def test_a_stop_of_a_healthy_stream(self) -> None:
        """The next check is called off."""
        self.assert_ends()
