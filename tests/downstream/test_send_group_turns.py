"""Tests for tradeproxy.downstream.send_group: between the turns of one fan-out, and when one client fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.journals import event, memory_journal
from tests.support.plain import CLOSE, Peer
from tests.support.send_groups import LISTEN_TO_STATUS, CrowdTestCase
from tradeproxy.downstream import send_group
from tradeproxy.downstream.encoder import plain_encoder
from tradeproxy.downstream.send_group import SendGroup, SendGroups
from tradeproxy.hub import broadcaster
from tradeproxy.hub.account import Account
from tradeproxy.journal.backlog import MAX_EVENTS
from tradeproxy.journal.base import Batch, Row


class FanOutTests(CrowdTestCase):
    """What happens between the turns in which a burst is handed to one crowd after the other."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(broadcaster, "CHUNK", 1)
        self.patch(send_group, "MAX_GROUP_SIZE", 2)

    def interrupt(self, act: Callable[[Peer], object], who: int, after: int = 1) -> list[Peer]:
        """Let one of six act so many turns after an event has come, and return all six."""
        peers = self.crowded(6)
        self.hand_in()
        self.kernel.turn(after)
        act(peers[who])
        self.kernel.settle()
        return peers

    def test_who_speaks_misses_nothing(self) -> None:
        """Whether its crowd has been served or is still to be, and whether or not more comes meanwhile."""
        for who, after, more in product(range(6), range(5), range(2)):
            self.setUp()

            def act(peer: Peer, more: int = more) -> None:
                peer.say(AUTH)
                self.hand_in(more)

            peers = self.interrupt(act, who, after)
            peers[who].texts.remove(AUTHENTICATED)
            self.assert_all_came(*peers)
            self.publish()
            self.assert_all_came(*peers)
            self.assertEqual(len(self.broadcaster), 6)
            self.assertNotIn(None, [self.crowd_of(peer) for peer in peers])

    def test_who_ends_harms_nobody(self) -> None:
        """By a goodbye, a reset or a word that is not understood."""

        def reset(peer: Peer) -> None:
            peer.socket.is_reset = True

        acts = (lambda peer: peer.say(b"", CLOSE), lambda peer: peer.say(b"hello"), reset)
        for act in acts:
            for who in range(6):
                self.setUp()
                ended = self.interrupt(act, who)
                others = [peer for peer in ended if peer is not ended[who]]
                self.assert_all_came(*others)
                self.assertEqual(len(self.broadcaster), 5)
                texts = ended[who].texts
                self.assertEqual(texts, self.published[: len(texts)])

    def test_who_asks_for_the_status_gets_it_in_its_place(self) -> None:
        """What it is told of the state is behind the events that were handed on before."""
        for who in range(6):
            self.setUp()
            peers = self.interrupt(lambda peer: peer.say(LISTEN_TO_STATUS), who)
            said = [b'"proxy_status"' in text.partition(b'"data"')[0] for text in peers[who].texts]
            self.assertEqual(said.count(True), 1)
            self.assert_all_came(*(peer for peer in peers if peer is not peers[who]))
            self.assertEqual(len(said), len(self.published) + 2)

    def test_what_has_no_place_in_the_log_is_missed_by_nobody(self) -> None:
        """While the disk is full and so is the backlog, only the broadcaster knows such events."""
        for who in (0, 3, 5):
            self.setUp()
            peers = self.crowded(6)
            self.fill_backlog()
            self.publish()
            for peer in peers:
                peer.taken()
            since = len(self.published)
            self.hand_in()
            peers[who].say(AUTH)
            self.kernel.turn()
            self.publish()
            peers[who].texts.remove(AUTHENTICATED)
            self.assert_all_came(*peers, since=since)

    def test_who_leaves_before_the_first_of_them_is_told(self) -> None:
        """It finds a hole where its crowd would still have been sent the event."""
        for who in (0, 3, 5):
            self.setUp()
            peers = self.crowded(6)
            self.fill_backlog()
            for peer in peers:
                peer.taken()
            since = len(self.published)
            self.hand_in()
            peers[who].say(AUTH)
            self.kernel.turn()
            self.publish()
            speaker = peers.pop(who)
            speaker.texts.remove(AUTHENTICATED)
            self.assert_all_came(*peers, since=since)
            if speaker.closed is None:
                self.assert_all_came(speaker, since=since)
            else:
                self.assertEqual((speaker.closed, speaker.texts), (4010, []))

    def test_such_events_one_behind_the_other(self) -> None:
        """Those that come while one of them is handed on: who has had that one is at their place already."""
        peers = self.crowded(6)
        self.fill_backlog()
        self.publish()
        for peer in peers:
            peer.taken()
        since = len(self.published)
        for _ in range(20):
            self.hand_in()
            self.kernel.turn()
        self.kernel.settle()
        self.assert_all_came(*peers, since=since)

    def fill_backlog(self) -> None:
        self.disk.refuse_writing()
        small = replace(event(0), payload=b'{"stream":"trade_updates","data":{}}')
        for begin in range(0, MAX_EVENTS, 1000):
            for number in range(begin, begin + 1000):
                self.account.publish(replace(small, identity=str(number)))
            self.kernel.settle()
        for client in self.served.values():
            self.assertIsNotNone(client.send_group)


class Frail:
    """A member that takes a part of what it is offered, and may then fail."""

    size = 1
    is_caught_up = True

    def __init__(self, account: Account, failure: Exception | None = None) -> None:
        self.send_group: SendGroup | None = None
        self.account = account
        self.taken = b""
        self.bursts: list[Batch] = []
        self.severed = 0
        self._failure = failure

    @property
    def subscriber(self) -> Frail:
        return self

    def send(self, data: bytes) -> int:
        self.taken += data[:1]
        return 1

    def resume_feed(self, position: int, rest: bytes) -> None:
        self.account.broadcaster.register(self)
        self._fail()
        self.taken += rest

    def deliver(self, burst: Batch) -> None:
        self._fail()
        self.bursts.append(burst)

    def announce(self, status: bytes) -> None: ...

    def abort(self) -> None:
        self.severed += 1
        self._fail()

    def _fail(self) -> None:
        if self._failure is not None:
            raise self._failure


class FailureTests(SynchronousTestCase):
    """Whoever cannot be served outside its crowd either is ended, alone."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.account = Account("paper", memory_journal(self.clock), self.clock)
        self.crowds = SendGroups(plain_encoder(lambda payload: payload), self.clock)
        failures = (None, ZeroDivisionError(), None)
        self.members = [Frail(self.account, failure) for failure in failures]
        for member in self.members:
            self.crowds.offer(member)
        self.clock.advance(0)

    def assert_one_ended(self, errors: int) -> None:
        self.assertEqual([member.severed for member in self.members], [0, 1, 0])
        self.assertEqual([member.send_group for member in self.members], [None] * 3)
        self.assertEqual(len(self.account.broadcaster), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), errors)

    def test_by_a_short_write(self) -> None:
        """The others' are completed."""
        self.account.broadcaster.publish(Batch((Row(1, b"event"),)))
        self.assertEqual([member.taken for member in self.members], [b"event", b"e", b"event"])
        self.assert_one_ended(2)

    def test_by_a_burst_that_each_is_to_see_for_itself(self) -> None:
        """The others get it."""
        hole = Batch((Row(1, None),))
        self.account.broadcaster.publish(hole)
        self.assertEqual([member.bursts for member in self.members], [[hole], [], [hole]])
        self.assert_one_ended(2)

    def test_when_all_are_ended(self) -> None:
        """One that cannot be is no reason to leave the others connected and deaf."""
        (crowd_,) = {member.send_group for member in self.members}
        assert crowd_ is not None
        crowd_.abort()
        self.assertEqual([member.severed for member in self.members], [1, 1, 1])
        self.assertEqual(len(self.account.broadcaster), 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
