"""Tests for tradeproxy.downstream.handshake_limits: one timer for all who have yet to say who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.downstream.handshake_limits import AuthDeadlines

if TYPE_CHECKING:
    from collections.abc import Callable


class Client:
    """A client that notes when its time is up."""

    def __init__(
        self, number: int, told: list[int], then: Callable[[], object] = lambda: None
    ) -> None:
        self._number = number
        self._told = told
        self._then = then

    def auth_timed_out(self) -> None:
        self._told.append(self._number)
        self._then()


class NewcomersTests(SynchronousTestCase):
    """Ten seconds each."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.newcomers = AuthDeadlines(10, self.clock)
        self.told: list[int] = []

    def come(self, number: int, then: Callable[[], object] = lambda: None) -> Client:
        client = Client(number, self.told, then)
        self.newcomers.add(client)
        return client

    def test_each_is_told_when_its_own_time_is_up(self) -> None:
        """Not sooner because somebody else's is, and only once."""
        for number in range(3):
            self.come(number)
            self.clock.advance(4)
        told = {}
        for time in range(13, 25):
            self.clock.advance(1)
            told[time] = tuple(self.told)
        self.assertEqual([told[13], told[14], told[18]], [(0,), (0, 1), (0, 1, 2)])
        self.assertEqual(self.told, [0, 1, 2])

    def test_many_need_one_timer(self) -> None:
        """And nobody none."""
        clients = [self.come(number) for number in range(100)]
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        for client in clients:
            self.newcomers.discard(client)
        self.assertEqual((len(self.newcomers), self.clock.getDelayedCalls()), (0, []))

    def test_who_has_said_who_it_is_is_not_told(self) -> None:
        """The timer that was set for it serves those behind it."""
        first = self.come(1)
        self.clock.advance(5)
        self.come(2)
        self.newcomers.discard(first)
        self.newcomers.discard(first)
        self.clock.advance(9.9)
        self.assertEqual(self.told, [])
        self.clock.advance(0.1)
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([2], []))

    def test_the_time_of_one_may_end_another_or_bring_one(self) -> None:
        """Whatever telling a client leads to, nobody is told twice, or forgotten."""
        later: list[Client] = []
        self.come(1, lambda: self.newcomers.discard(later[0]))
        self.come(2, lambda: self.come(4))
        later.append(self.come(3))
        self.clock.advance(10)
        self.assertEqual(self.told, [1, 2])
        self.clock.advance(10)
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([1, 2, 4], []))

    def test_any_order_of_coming_and_going(self) -> None:
        """At every moment those and only those have been told who stayed for ten seconds."""
        came: dict[int, tuple[float, Client]] = {}
        gone: set[int] = set()
        for number in range(60):
            came[number] = (self.clock.seconds(), self.come(number))
            if number % 3 == 2:  # somebody who came a little before
                gone.add(number - number % 2)
                self.newcomers.discard(came[number - number % 2][1])
            self.clock.advance((number * 7 % 5) / 2)
            stayed = [n for n, (time, _) in came.items() if time + 10 <= self.clock.seconds()]
            self.assertEqual(self.told, [n for n in stayed if n not in gone])
