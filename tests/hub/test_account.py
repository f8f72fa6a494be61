"""Tests for tradeproxy.hub.account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.hub.account import Account, UpstreamStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.hub.broadcaster import Burst


class Reader:
    """A subscriber that keeps what it is handed, and then does `on_delivery`."""

    def __init__(self, on_delivery: Callable[[], object] = lambda: None) -> None:
        self.bursts: list[Burst] = []
        self._on_delivery = on_delivery

    def deliver(self, burst: Burst) -> None:
        """Keep `burst`."""
        self.bursts.append(burst)
        self._on_delivery()

    def sever(self) -> None:
        """Do nothing: nothing here fails."""


class PublishTests(SynchronousTestCase):
    """Events go in one by one and come out as bursts."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.account = Account("paper", self.clock)
        self.reader = Reader()
        self.account.broadcaster.register(self.reader)

    def test_hands_on_the_events_of_one_turn_as_one_burst(self) -> None:
        """What one turn of the reactor brings is delivered at its end, in order, at once."""
        for payload in frames.TRADE_UPDATES:
            self.account.publish(payload)
        self.assertEqual(self.reader.bursts, [])
        self.clock.advance(0)
        self.assertEqual(self.reader.bursts, [frames.TRADE_UPDATES])

    def test_hands_on_the_payload_itself(self) -> None:
        """The bytes that go out are the object that came in."""
        self.account.publish(frames.FILL)
        self.clock.advance(0)
        self.assertIs(self.reader.bursts[0][0], frames.FILL)

    def test_hands_on_the_events_of_a_later_turn_as_another_burst(self) -> None:
        """A turn's events don't wait for the next turn's."""
        self.account.publish(frames.NEW)
        self.clock.advance(0)
        self.account.publish(frames.PARTIAL_FILL)
        self.account.publish(frames.FILL)
        self.clock.advance(0)
        self.assertEqual(self.reader.bursts, [(frames.NEW,), (frames.PARTIAL_FILL, frames.FILL)])

    def test_hands_on_what_is_published_during_a_delivery_in_the_turn_after(self) -> None:
        """An event that a delivery brings about comes after the burst at hand, to everybody."""
        again = [frames.FILL]
        echo = Reader(lambda: self.account.publish(again.pop()) if again else None)
        self.account.broadcaster.register(echo)
        last = Reader()
        self.account.broadcaster.register(last)
        self.account.publish(frames.NEW)
        self.clock.advance(0)  # a Clock runs the turn after at once
        for reader in (self.reader, echo, last):
            self.assertEqual(reader.bursts, [(frames.NEW,), (frames.FILL,)])

    def test_leaves_nothing_scheduled_behind(self) -> None:
        """Without events there is no timer, and after a burst none remains."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.account.publish(frames.NEW)
        self.account.publish(frames.FILL)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_keeps_accounts_apart(self) -> None:
        """No event of one account reaches a subscriber of another."""
        other, listener = Account("live", self.clock), Reader()
        other.broadcaster.register(listener)
        self.account.publish(frames.NEW)
        other.publish(frames.FILL)
        self.clock.advance(0)
        self.assertEqual((self.reader.bursts, listener.bursts), ([(frames.NEW,)], [(frames.FILL,)]))


class DropTests(SynchronousTestCase):
    """Frames of no use are counted."""

    def test_counts_each_kind_and_logs_only_its_first(self) -> None:
        """A stream of garbage costs one line a kind, however long it lasts."""
        account = Account("paper", Clock())
        with capturedLogs() as events:
            for problem in ("not JSON", "an error frame", "not JSON", "not JSON", "an error frame"):
                account.drop(problem)
        self.assertEqual(account.dropped, {"not JSON": 3, "an error frame": 2})
        self.assertEqual(
            [(event["log_level"], event["account"], event["problem"]) for event in events],
            [(LogLevel.warn, "paper", "not JSON"), (LogLevel.warn, "paper", "an error frame")],
        )
        for event in events:
            self.assertIn(event["problem"], formatEvent(event))


class UpstreamStatusTests(SynchronousTestCase):
    """The account knows how its upstream is, and since when."""

    def test_follows_the_upstream(self) -> None:
        """`since` is where the present state began: a further failed attempt does not move an outage."""
        clock = Clock()
        clock.advance(1000)
        account = Account("paper", clock)
        up, down = account.upstream_is_up, account.upstream_is_down
        self.assertEqual(account.upstream, UpstreamStatus(False, "not connected yet", 1000.0))
        steps: list[tuple[str, Callable[[], None], UpstreamStatus]] = [
            ("the first attempt fails", lambda: down("refused"), UpstreamStatus(False, "refused", 1000.0)),
            ("it comes up", up, UpstreamStatus(True, "streaming", 1020.0)),
            ("it is lost", lambda: down("lost"), UpstreamStatus(False, "lost", 1030.0)),
            ("an attempt fails", lambda: down("HTTP 429"), UpstreamStatus(False, "HTTP 429", 1030.0)),
            ("it comes up again", up, UpstreamStatus(True, "streaming", 1050.0)),
            ("it is lost again", lambda: down("lost"), UpstreamStatus(False, "lost", 1060.0)),
        ]
        for name, step, status in steps:
            clock.advance(10)
            step()
            self.assertEqual(account.upstream, status, name)
