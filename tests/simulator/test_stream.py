"""Tests of the stream, over memory transports and in fake time."""

from __future__ import annotations

import json

from tests.simulator.support import SimulatorTestCase
from tests.support.frames import (
    AUTH,
    AUTHENTICATE,
    AUTHORIZED,
    KEY_REFUSED,
    LISTEN,
    LISTEN_TO_NOTHING,
    LISTENING,
    LISTENING_TO_NOTHING,
    OAUTH,
    SERVER_ERROR,
    UNAUTHORIZED,
)
from tests.support.memory import simulator
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.wire.credentials import KeyPair, Secret


class TalkTests(SimulatorTestCase):
    """What is said to one client."""

    def test_says_nothing_first(self) -> None:
        """The client speaks first."""
        client = self.connect()
        self.wires.advance(60)
        self.assertEqual(client.messages, [])
        self.assertTrue(self.simulator.connected)

    def test_authorizes_in_every_dialect(self) -> None:
        """Each way to log in gets the same authorization object, and so does a binary frame."""
        client = self.connect(AUTHENTICATE, AUTH, OAUTH)
        client.sendMessage(AUTHENTICATE, isBinary=True)
        self.assertEqual(self.say(client, b'{"action":"dance"}'), [AUTHORIZED] * 4)

    def test_sends_events_only_to_who_listens(self) -> None:
        """An event before listen is lost, one after it arrives as it was sent, and `[]` stops them."""
        client = self.connect(AUTHENTICATE)
        self.simulator.emit({"event": "lost"})
        self.assertEqual(self.say(client, LISTEN), [AUTHORIZED, LISTENING])
        payload = self.simulator.emit({"event": "new"})
        self.assertEqual(json.loads(payload), {"stream": "trade_updates", "data": {"event": "new"}})
        self.assertEqual(self.say(client, LISTEN_TO_NOTHING), [payload, LISTENING_TO_NOTHING])
        self.simulator.emit({"event": "lost"})
        self.assertEqual(self.say(client), [])

    def test_speaks_binary_or_text(self) -> None:
        """Frames are binary, as those of the paper account, unless text is asked for."""
        self.assertEqual(self.connect(AUTHENTICATE).binary, [True])
        self.simulator = simulator(self.clock, binary=False)
        self.assertEqual(self.connect(AUTHENTICATE).binary, [False])

    def test_fails_on_what_is_not_json(self) -> None:
        """Alpaca's error frame answers, and then a close frame."""
        client = self.connect(b"hello")
        self.assertEqual((client.messages, client.closed), ([SERVER_ERROR], (1000, None)))

    def test_refuses_other_credentials(self) -> None:
        """With credentials set, others are unauthorized, and the connection closes."""
        self.simulator = simulator(self.clock, credentials=KeyPair(Secret("K"), Secret("S")))
        client = self.connect(AUTH.replace(b"S", b"other"))
        self.assertEqual(
            [json.loads(message) for message in client.taken()], [json.loads(KEY_REFUSED)]
        )
        self.assertEqual(client.closed, (1000, None))
        self.assertEqual(self.connect(AUTH).messages, [AUTHORIZED])


class ConnectionTests(SimulatorTestCase):
    """The account's one connection, and who has it."""

    def test_allows_one(self) -> None:
        """A second client gets 429 until the first is gone; every handshake is counted."""
        first, second = self.connect(AUTHENTICATE), self.connect()
        self.assertIn("429", second.http_status_line)
        self.assertNotIn("retry-after", second.http_headers)
        first.sendClose(1000)
        self.assertEqual(self.say(first), [AUTHORIZED])
        self.assertEqual(self.connect(AUTHENTICATE).messages, [AUTHORIZED])
        self.assertEqual(self.simulator.handshakes, 3)

    def test_remembers_how_the_client_closed(self) -> None:
        """The close frame of the last client is kept; without one there is none."""
        self.connect().sendClose(3001, "enough")
        self.wires.flush()
        self.assertEqual(self.simulator.last_close, (3001, "enough"))
        self.connect().dropConnection(abort=True)
        self.wires.flush()
        self.assertIsNone(self.simulator.last_close)

    def test_tells_when_a_client_listens_and_when_it_is_gone(self) -> None:
        """Both fire at the next such moment, and at once when it is so already."""
        listening = self.simulator.when_listening()
        self.successResultOf(self.simulator.when_gone())
        client = self.connect(AUTHENTICATE)
        self.assertNoResult(listening)
        gone = self.simulator.when_gone()
        self.say(client, LISTEN)
        self.successResultOf(listening)
        self.successResultOf(self.simulator.when_listening())
        self.assertTrue(self.simulator.listening)
        self.assertNoResult(gone)
        client.sendClose(1000)
        self.wires.flush()
        self.successResultOf(gone)
        self.assertFalse(self.simulator.listening)

    def test_ends_with_a_close_frame(self) -> None:
        """At the end the client is told 1001, and the end is over when it has answered."""
        client = self.listener()
        ended = self.simulator.stop()
        self.wires.flush()
        self.assertEqual(client.closed, (1001, None))
        self.successResultOf(ended)

    def test_does_not_wait_for_a_client_that_does_not_answer(self) -> None:
        """A client that never answers the close frame is dropped after a second or so."""
        self.listener().answers_close = False
        ended = self.simulator.stop()
        self.wires.advance(0.5)
        self.assertNoResult(ended)
        self.wires.advance(1)
        self.successResultOf(ended)


class FaultTests(SimulatorTestCase):
    """Each fault, as the client sees it."""

    def test_without_a_client_nothing_happens(self) -> None:
        """Only the faults that last wait for a client."""
        for kind in FaultKind:
            if not kind.lasting:
                self.inject(kind)
        self.assertEqual(self.connect(AUTHENTICATE, LISTEN).messages, [AUTHORIZED, LISTENING])

    def test_drop_and_reset_end_without_a_close_frame(self) -> None:
        """The client sees an unclean end, and the next one is let in."""
        for kind in (FaultKind.DROP, FaultKind.RESET):
            client = self.listener()
            self.inject(kind)
            self.assertFalse(client.is_open_now)
            self.assertIsNone(client.closed)
            self.assertFalse(self.simulator.connected)

    def test_close_is_clean(self) -> None:
        """The client gets close code 1000, and no event after it."""
        client = self.listener()
        self.inject(FaultKind.CLOSE)
        self.simulator.emit({"event": "lost"})
        self.assertEqual((self.say(client), client.closed), ([], (1000, None)))

    def test_silence_is_total_until_it_ends(self) -> None:
        """Neither events nor replies nor pongs come while it lasts; what was said meanwhile is lost."""
        client = self.listener()
        self.inject(FaultKind.SILENCE, seconds=5)
        client.sendPing(b"lost")
        self.simulator.emit({"event": "lost"})
        self.assertEqual((self.say(client, AUTHENTICATE), client.pongs), ([], []))
        self.wires.advance(5.1)
        client.sendPing(b"ping")
        payload = self.simulator.emit({"event": "new"})
        self.assertEqual((self.say(client), client.pongs), ([payload], [b"ping"]))

    def test_silence_may_last_for_good(self) -> None:
        """Without seconds it never ends; a close frame gets no answer, but is remembered."""
        client = self.listener()
        self.inject(FaultKind.SILENCE)
        self.wires.advance(100_000)
        client.sendClose(3000, "are you there?")
        self.wires.flush()
        self.assertTrue(self.simulator.connected)
        self.wires.advance(2)
        self.assertIsNone(client.closed)
        self.assertEqual(self.simulator.last_close, (3000, "are you there?"))

    def test_throttle_refuses_handshakes(self) -> None:
        """The next handshakes get 429 with Retry-After, and then one gets through."""
        self.inject(FaultKind.THROTTLE, count=2, retry_after=7)
        for _ in range(2):
            client = self.connect()
            self.assertIn("429", client.http_status_line)
            self.assertEqual(client.http_headers["retry-after"], "7")
        self.assertEqual(self.connect(AUTHENTICATE).messages, [AUTHORIZED])

    def test_refuse_answers_unauthorized(self) -> None:
        """Logins get `unauthorized` and a close for as long as it lasts."""
        self.inject(FaultKind.REFUSE, seconds=10)
        client = self.connect(AUTHENTICATE)
        self.assertEqual((client.messages, client.closed), ([UNAUTHORIZED], (1000, None)))
        self.wires.advance(10)
        self.assertEqual(self.connect(AUTHENTICATE).messages, [AUTHORIZED])

    def test_repeat_sends_the_same_bytes(self) -> None:
        """The last events come again, byte for byte, as many as there are."""
        client = self.listener()
        sent = [self.simulator.emit({"event": "new", "event_id": str(n)}) for n in range(3)]
        self.inject(FaultKind.REPEAT, count=2)
        self.inject(FaultKind.REPEAT, count=99)
        self.assertEqual(client.messages, sent + sent[1:] + sent)

    def test_garbage_is_of_every_sort(self) -> None:
        """Five frames of junk are null data, no JSON, another stream, an error, and broken binary."""
        client = self.listener()
        self.inject(FaultKind.GARBAGE, count=6)
        self.assertEqual(json.loads(client.messages[0]), {"stream": "trade_updates", "data": None})
        self.assertEqual(client.binary[-6:], [False, False, False, False, True, False])
        self.assertEqual(client.messages[5], client.messages[0])
        self.assertTrue(self.simulator.connected)

    def test_burst_is_one_write(self) -> None:
        """All events of a burst leave in one write, in order, each with its own id."""
        client = self.listener()
        self.simulator.inject(Fault(FaultKind.BURST, count=500))
        self.assertEqual(len(self.server.transport.stream), 1)
        self.wires.flush()
        ids = [json.loads(message)["data"]["event_id"] for message in client.messages]
        self.assertEqual((len(ids), ids), (500, sorted(set(ids))))
