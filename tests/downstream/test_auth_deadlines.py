"""Tests for the auth deadlines of tradeproxy.downstream.handshake_limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from tests.support.plain import Kernel
from tradeproxy.downstream.handshake_limits import AuthDeadlines

if TYPE_CHECKING:
    from collections.abc import Callable


class RecordingClient:
    """A client that records its timeout."""

    def __init__(
        self, number: int, timed_out: list[int], then: Callable[[], object] = lambda: None
    ) -> None:
        self._number = number
        self._timed_out = timed_out
        self._then = then

    def auth_timed_out(self) -> None:
        self._timed_out.append(self._number)
        self._then()


class AuthDeadlinesTests(SynchronousTestCase):
    """Every client has ten seconds."""

    def setUp(self) -> None:
        self.clock = Kernel()
        self.deadlines = AuthDeadlines(10, self.clock)
        self.timed_out: list[int] = []

    def add(self, number: int, then: Callable[[], object] = lambda: None) -> RecordingClient:
        client = RecordingClient(number, self.timed_out, then)
        self.deadlines.add(client.auth_timed_out)
        return client

    def test_each_client_times_out_at_its_own_deadline(self) -> None:
        """A client times out once, and not at another client's deadline."""
        for number in range(3):
            self.add(number)
            self.clock.advance(4)
        seen = {}
        for time in range(13, 25):
            self.clock.advance(1)
            seen[time] = tuple(self.timed_out)
        self.assertEqual([seen[13], seen[14], seen[18]], [(0,), (0, 1), (0, 1, 2)])
        self.assertEqual(self.timed_out, [0, 1, 2])

    def test_many_clients_use_one_timer(self) -> None:
        """Without clients there is no timer."""
        clients = [self.add(number) for number in range(100)]
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        for client in clients:
            self.deadlines.discard(client.auth_timed_out)
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))

    def test_discarded_client_does_not_time_out(self) -> None:
        """The timer of a discarded client serves the clients after it."""
        first = self.add(1)
        self.clock.advance(5)
        self.add(2)
        self.deadlines.discard(first.auth_timed_out)
        self.deadlines.discard(first.auth_timed_out)
        self.clock.advance(9.9)
        self.assertEqual(self.timed_out, [])
        self.clock.advance(0.1)
        self.assertEqual((self.timed_out, self.clock.getDelayedCalls()), ([2], []))

    def test_timeout_callback_may_discard_and_add_clients(self) -> None:
        """Each remaining client times out once, whatever the callbacks do."""
        later: list[RecordingClient] = []
        self.add(1, lambda: self.deadlines.discard(later[0].auth_timed_out))
        self.add(2, lambda: self.add(4))
        later.append(self.add(3))
        self.clock.advance(10)
        self.assertEqual(self.timed_out, [1, 2])
        self.clock.advance(10)
        self.assertEqual((self.timed_out, self.clock.getDelayedCalls()), ([1, 2, 4], []))

    def test_late_reactor_times_out_each_client_once(self) -> None:
        """A timeout may add a client while others are overdue."""
        self.add(1, lambda: self.add(3))
        self.clock.advance(0.5)
        self.add(2)
        self.clock.advance(20)
        self.assertEqual(self.timed_out, [1, 2])
        self.clock.advance(9.9)
        self.assertEqual(self.timed_out, [1, 2])
        self.clock.advance(0.1)
        self.assertEqual((self.timed_out, self.clock.getDelayedCalls()), ([1, 2, 3], []))

    def test_any_order_of_add_and_discard_times_out_the_rest(self) -> None:
        """At every moment exactly the clients that stayed for ten seconds have timed out."""
        added: dict[int, tuple[float, RecordingClient]] = {}
        discarded: set[int] = set()
        for number in range(60):
            added[number] = (self.clock.seconds(), self.add(number))
            if number % 3 == 2:  # a client that was added shortly before
                discarded.add(number - number % 2)
                self.deadlines.discard(added[number - number % 2][1].auth_timed_out)
            self.clock.advance((number * 7 % 5) / 2)
            stayed = [n for n, (time, _) in added.items() if time + 10 <= self.clock.seconds()]
            self.assertEqual(self.timed_out, [n for n in stayed if n not in discarded])
