"""Tests of the stream, over memory transports and in fake time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.simulator.support import AUTHORIZED, LISTEN, LISTENING, LOGIN, MemoryTestCase
from tradeproxy.secret import KeyPair, Secret
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.service import Simulator

if TYPE_CHECKING:
    from tests.simulator.support import Peer

UNAUTHORIZED = {"status": "unauthorized", "action": "authenticate"}


class ConversationTests(MemoryTestCase):
    """What is said to one client."""

    def test_says_nothing_first(self) -> None:
        """The client speaks first."""
        peer = self.connect()
        self.settle(60)
        self.assertEqual(peer.frames, [])
        self.assertTrue(self.simulator.connected)

    def test_authorizes_in_every_dialect(self) -> None:
        """Each way to log in gets the same authorization object."""
        oauth = {"action": "authenticate", "data": {"oauth_token": "t"}}
        peer = self.connect(LOGIN, {"action": "auth", "key": "k", "secret": "s"}, oauth)
        self.assertEqual(peer.documents, [AUTHORIZED] * 3)

    def test_sends_events_only_to_who_listens(self) -> None:
        """An event before listen is lost, one after it arrives as it was sent, and `[]` stops them."""
        peer = self.connect(LOGIN)
        self.simulator.emit({"event": "lost"})
        peer.say(LISTEN)
        self.settle()
        payload = self.simulator.emit({"event": "new"})
        peer.say({"action": "listen", "data": {"streams": []}})
        self.settle()
        self.simulator.emit({"event": "lost"})
        self.settle()
        self.assertEqual(peer.documents[:2], [AUTHORIZED, LISTENING])
        self.assertEqual(peer.frames[2][0], payload)
        self.assertEqual(json.loads(payload), {"stream": "trade_updates", "data": {"event": "new"}})
        self.assertEqual(peer.documents[3:], [{"stream": "listening", "data": {"streams": []}}])

    def test_speaks_binary_or_text(self) -> None:
        """Frames are binary, as those of the paper account, unless text is asked for."""
        self.assertEqual([binary for _, binary in self.connect(LOGIN).frames], [True])
        self.simulator = Simulator(self.clock, self.simulator.random, binary=False)
        self.assertEqual([binary for _, binary in self.connect(LOGIN).frames], [False])

    def test_understands_binary(self) -> None:
        """A client's binary frames mean what its text frames mean."""
        peer = self.connect()
        peer.sendMessage(json.dumps(LOGIN).encode(), isBinary=True)
        self.settle()
        self.assertEqual(peer.documents, [AUTHORIZED])

    def test_ignores_what_it_does_not_know(self) -> None:
        """A request of an unknown kind gets no reply, and does no harm."""
        peer = self.connect({"action": "dance"}, LOGIN)
        self.assertEqual(peer.documents, [AUTHORIZED])

    def test_fails_on_what_is_not_json(self) -> None:
        """Alpaca's error frame answers, and then a close frame."""
        peer = self.connect()
        peer.sendMessage(b"hello")
        self.settle()
        message = {"action": "error", "data": {"error_message": "internal server error"}}
        self.assertEqual(peer.documents, [message])
        self.assertEqual(self.successResultOf(peer.closed)[:2], (True, 1000))

    def test_refuses_other_credentials(self) -> None:
        """With credentials set, others are unauthorized, and the connection closes."""
        good = KeyPair(Secret("k"), Secret("s"))
        self.simulator = Simulator(self.clock, self.simulator.random, credentials=good)
        self.assertEqual(self.connect({"action": "auth", "key": "k", "secret": "s"}).documents, [AUTHORIZED])
        self.simulator = Simulator(self.clock, self.simulator.random, credentials=good)
        peer = self.connect({"action": "auth", "key": "k", "secret": "other"})
        (refusal,) = peer.documents
        self.assertEqual(refusal["data"], UNAUTHORIZED | {"message": "access key verification failed"})
        self.assertTrue(self.successResultOf(peer.closed)[0])

    def test_an_error_of_ours_costs_only_the_connection(self) -> None:
        """Should the verdict on a login fail, the client is dropped, the error logged, and the place free."""

        class Broken:
            def __eq__(self, other: object) -> bool:
                raise ZeroDivisionError

            __hash__ = None  # type: ignore[assignment]  # as for any class with __eq__ alone

        credentials: Any = Broken()
        self.simulator = Simulator(self.clock, self.simulator.random, credentials=credentials)
        peer = self.connect(LOGIN)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.successResultOf(peer.closed)[0])
        self.assertFalse(self.simulator.connected)


class SlotTests(MemoryTestCase):
    """The one place, and who has it."""

    def test_allows_one_connection(self) -> None:
        """A second client gets 429 until the first is gone; every handshake is counted."""
        first, second = self.connect(LOGIN), self.connect()
        self.assertIn("429", str(self.successResultOf(second.closed)[2]))
        self.assertNotIn(b"Retry-After", b"".join(self.transport.writes))
        first.sendClose(1000)
        self.settle()
        self.assertEqual(self.connect(LOGIN).documents, [AUTHORIZED])
        self.assertEqual(self.simulator.handshakes, 3)

    def test_remembers_how_the_client_closed(self) -> None:
        """The close frame of the last client is kept; without one there is none."""
        self.connect().sendClose(3001, "enough")
        self.settle()
        self.assertEqual(self.simulator.last_close, (3001, "enough"))
        self.connect().dropConnection(abort=True)
        self.settle()
        self.assertIsNone(self.simulator.last_close)

    def test_tells_when_a_client_listens_and_when_it_is_gone(self) -> None:
        """Both fire at the next such moment, and at once when it is so already."""
        listening = self.simulator.when_listening()
        self.successResultOf(self.simulator.when_gone())
        peer = self.connect(LOGIN)
        self.assertNoResult(listening)
        gone = self.simulator.when_gone()
        peer.say(LISTEN)
        self.settle()
        self.successResultOf(listening)
        self.successResultOf(self.simulator.when_listening())
        self.assertTrue(self.simulator.listening)
        self.assertNoResult(gone)
        peer.sendClose(1000)
        self.settle()
        self.successResultOf(gone)
        self.assertFalse(self.simulator.listening)

    def test_ends_with_a_close_frame(self) -> None:
        """At the end the client is told 1001, and the end is over when it has answered."""
        peer = self.connect(LOGIN, LISTEN)
        ended = self.simulator.end()
        self.settle()
        self.assertEqual(self.successResultOf(peer.closed)[:2], (True, 1001))
        self.successResultOf(ended)

    def test_does_not_wait_for_a_client_that_does_not_answer(self) -> None:
        """A client that never answers the close frame is dropped after a second or so."""
        self.connect(LOGIN, LISTEN)
        ended = self.simulator.end()
        self.clock.advance(0.5)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)
        self.assertNoResult(ended)
        self.settle()
        self.successResultOf(ended)


class FaultTests(MemoryTestCase):
    """Each fault, as the client sees it."""

    def listener(self) -> Peer:
        return self.connect(LOGIN, LISTEN)

    def inject(self, kind: FaultKind, **changes: Any) -> None:
        self.simulator.inject(Fault(kind, **changes))
        self.settle()

    def test_without_a_client_nothing_happens(self) -> None:
        """A fault of the moment has nobody to befall."""
        for kind in FaultKind:
            if kind not in (FaultKind.THROTTLE, FaultKind.REFUSE):
                self.inject(kind)
        self.assertEqual(self.listener().documents, [AUTHORIZED, LISTENING])

    def test_drop_and_reset_end_without_a_close_frame(self) -> None:
        """The client sees an unclean end, and the place is free."""
        for kind in (FaultKind.DROP, FaultKind.RESET):
            peer = self.listener()
            self.inject(kind)
            self.assertEqual(self.successResultOf(peer.closed)[:2], (False, 1006))
            self.assertFalse(self.simulator.connected)

    def test_close_is_clean(self) -> None:
        """The client gets close code 1000, and no event after it."""
        peer = self.listener()
        self.simulator.inject(Fault(FaultKind.CLOSE))
        self.simulator.emit({"event": "new"})
        self.settle()
        self.assertEqual(self.successResultOf(peer.closed)[:2], (True, 1000))
        self.assertEqual(peer.events, [])

    def test_silence_is_total_until_it_ends(self) -> None:
        """Neither events nor replies nor pongs come while it lasts; what was said meanwhile is lost."""
        peer = self.listener()
        self.inject(FaultKind.SILENCE, seconds=5)
        peer.sendPing(b"lost")
        peer.say(LOGIN)
        self.simulator.emit({"event": "lost"})
        self.settle(4.9)
        self.assertEqual((peer.documents, peer.pongs), ([AUTHORIZED, LISTENING], []))
        self.settle(0.2)
        peer.sendPing(b"ping")
        self.simulator.emit({"event": "new"})
        self.settle()
        self.assertEqual((peer.events, peer.pongs), (["new"], [b"ping"]))

    def test_silence_may_last_for_good(self) -> None:
        """Without seconds it never ends, a close frame gets no answer, but is remembered."""
        peer = self.listener()
        self.inject(FaultKind.SILENCE)
        self.settle(100_000)
        peer.sendClose(3000, "are you there?")
        self.settle()
        self.assertTrue(self.simulator.connected)
        self.settle(2)
        self.assertFalse(self.successResultOf(peer.closed)[0])
        self.assertEqual(self.simulator.last_close, (3000, "are you there?"))

    def test_throttle_refuses_handshakes(self) -> None:
        """The next handshakes get 429 with Retry-After, and then one gets through."""
        self.inject(FaultKind.THROTTLE, count=2, retry_after=7)
        for _ in range(2):
            self.assertIn("429", str(self.successResultOf(self.connect().closed)[2]))
            self.assertIn(b"\r\nRetry-After: 7\r\n", b"".join(self.transport.writes))
        self.assertEqual(self.connect(LOGIN).documents, [AUTHORIZED])

    def test_refuse_answers_unauthorized(self) -> None:
        """Logins get `unauthorized` and a close for as long as it lasts."""
        self.inject(FaultKind.REFUSE, seconds=10)
        peer = self.connect(LOGIN)
        self.assertEqual(peer.documents, [{"stream": "authorization", "data": UNAUTHORIZED}])
        self.assertTrue(self.successResultOf(peer.closed)[0])
        self.settle(10)
        self.assertEqual(self.connect(LOGIN).documents, [AUTHORIZED])

    def test_repeat_sends_the_same_bytes(self) -> None:
        """The last events come again, byte for byte, as many as there are."""
        peer = self.listener()
        sent = [self.simulator.emit({"event": "new", "event_id": str(n)}) for n in range(3)]
        self.inject(FaultKind.REPEAT, count=2)
        self.inject(FaultKind.REPEAT, count=99)
        self.assertEqual([payload for payload, _ in peer.frames[2:]], sent + sent[1:] + sent)

    def test_garbage_is_of_every_sort(self) -> None:
        """Five frames of junk are null data, no JSON, another stream, an error, and broken binary."""
        peer = self.listener()
        self.inject(FaultKind.GARBAGE, count=6)
        junk = peer.frames[2:]
        self.assertEqual(json.loads(junk[0][0]), {"stream": "trade_updates", "data": None})
        self.assertEqual([binary for _, binary in junk], [False, False, False, False, True, False])
        self.assertEqual(junk[5], junk[0])
        self.assertTrue(self.simulator.connected)

    def test_burst_is_one_write(self) -> None:
        """All events of a burst leave in one write, in order, each with its own id."""
        peer = self.listener()
        del self.transport.writes[:]
        self.inject(FaultKind.BURST, count=500)
        ids = [document["data"]["event_id"] for document in peer.documents[2:]]
        self.assertEqual((len(ids), ids), (500, sorted(set(ids))))
        self.assertEqual(len(self.transport.writes), 1)
