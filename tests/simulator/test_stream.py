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


class MessageTests(SimulatorTestCase):
    """The messages to one client."""

    def test_connect_sends_nothing(self) -> None:
        """The client sends the first message."""
        client = self.connect()
        self.wires.advance(60)
        self.assertEqual(client.messages, [])
        self.assertTrue(self.simulator.connected)

    def test_every_dialect_is_authorized(self) -> None:
        """Each form of login gets the same reply, in binary frames too."""
        client = self.connect(AUTHENTICATE, AUTH, OAUTH)
        client.sendMessage(AUTHENTICATE, isBinary=True)
        self.assertEqual(self.say(client, b'{"action":"dance"}'), [AUTHORIZED] * 4)

    def test_events_go_only_to_listeners(self) -> None:
        """Events before listen are lost; an empty list stops them."""
        client = self.connect(AUTHENTICATE)
        self.simulator.emit({"event": "lost"})
        self.assertEqual(self.say(client, LISTEN), [AUTHORIZED, LISTENING])
        payload = self.simulator.emit({"event": "new"})
        self.assertEqual(json.loads(payload), {"stream": "trade_updates", "data": {"event": "new"}})
        self.assertEqual(self.say(client, LISTEN_TO_NOTHING), [payload, LISTENING_TO_NOTHING])
        self.simulator.emit({"event": "lost"})
        self.assertEqual(self.say(client), [])

    def test_frames_are_binary_by_default(self) -> None:
        """Paper accounts send binary frames; text is an option."""
        self.assertEqual(self.connect(AUTHENTICATE).binary, [True])
        self.simulator = simulator(self.clock, binary=False)
        self.assertEqual(self.connect(AUTHENTICATE).binary, [False])

    def test_invalid_json_closes(self) -> None:
        """Alpaca's error frame precedes the close frame."""
        client = self.connect(b"hello")
        self.assertEqual((client.messages, client.closed), ([SERVER_ERROR], (1000, None)))

    def test_invalid_credentials_close(self) -> None:
        """They are unauthorized, and the connection closes."""
        self.simulator = simulator(self.clock, credentials=KeyPair(Secret("K"), Secret("S")))
        client = self.connect(AUTH.replace(b"S", b"other"))
        self.assertEqual(
            [json.loads(message) for message in client.taken()], [json.loads(KEY_REFUSED)]
        )
        self.assertEqual(client.closed, (1000, None))
        self.assertEqual(self.connect(AUTH).messages, [AUTHORIZED])


class ConnectionTests(SimulatorTestCase):
    """The account's single connection."""

    def test_second_client_gets_429(self) -> None:
        """Every handshake is counted."""
        first, second = self.connect(AUTHENTICATE), self.connect()
        self.assertIn("429", second.http_status_line)
        self.assertNotIn("retry-after", second.http_headers)
        first.sendClose(1000)
        self.assertEqual(self.say(first), [AUTHORIZED])
        self.assertEqual(self.connect(AUTHENTICATE).messages, [AUTHORIZED])
        self.assertEqual(self.simulator.handshakes, 3)

    def test_last_close_is_the_clients_close_frame(self) -> None:
        """It is None without a close frame."""
        self.connect().sendClose(3001, "enough")
        self.wires.flush()
        self.assertEqual(self.simulator.last_close, (3001, "enough"))
        self.connect().dropConnection(abort=True)
        self.wires.flush()
        self.assertIsNone(self.simulator.last_close)

    def test_when_listening_and_when_gone_fire(self) -> None:
        """They fire immediately if the condition is true."""
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

    def test_stop_closes_with_1001(self) -> None:
        """The stop completes after the client's reply."""
        client = self.listener()
        ended = self.simulator.stop()
        self.wires.flush()
        self.assertEqual(client.closed, (1001, None))
        self.successResultOf(ended)

    def test_stop_drops_an_unresponsive_client(self) -> None:
        """It is dropped after about a second."""
        self.listener().answers_close = False
        ended = self.simulator.stop()
        self.wires.advance(0.5)
        self.assertNoResult(ended)
        self.wires.advance(1)
        self.successResultOf(ended)


class FaultTests(SimulatorTestCase):
    """Each fault, as the client sees it."""

    def test_fault_without_client_has_no_effect(self) -> None:
        """Only lasting faults wait for a client."""
        for kind in FaultKind:
            if not kind.lasting:
                self.inject(kind)
        self.assertEqual(self.connect(AUTHENTICATE, LISTEN).messages, [AUTHORIZED, LISTENING])

    def test_drop_and_reset_send_no_close_frame(self) -> None:
        """The next client is accepted."""
        for kind in (FaultKind.DROP, FaultKind.RESET):
            client = self.listener()
            self.inject(kind)
            self.assertFalse(client.is_open_now)
            self.assertIsNone(client.closed)
            self.assertFalse(self.simulator.connected)

    def test_close_sends_1000(self) -> None:
        """No event follows."""
        client = self.listener()
        self.inject(FaultKind.CLOSE)
        self.simulator.emit({"event": "lost"})
        self.assertEqual((self.say(client), client.closed), ([], (1000, None)))

    def test_silence_suppresses_everything(self) -> None:
        """Events, replies and pongs during the silence are lost."""
        client = self.listener()
        self.inject(FaultKind.SILENCE, seconds=5)
        client.sendPing(b"lost")
        self.simulator.emit({"event": "lost"})
        self.assertEqual((self.say(client, AUTHENTICATE), client.pongs), ([], []))
        self.wires.advance(5.1)
        client.sendPing(b"ping")
        payload = self.simulator.emit({"event": "new"})
        self.assertEqual((self.say(client), client.pongs), ([payload], [b"ping"]))

    def test_silence_without_seconds_never_ends(self) -> None:
        """A close frame gets no reply, but is recorded."""
        client = self.listener()
        self.inject(FaultKind.SILENCE)
        self.wires.advance(100_000)
        client.sendClose(3000, "are you there?")
        self.wires.flush()
        self.assertTrue(self.simulator.connected)
        self.wires.advance(2)
        self.assertIsNone(client.closed)
        self.assertEqual(self.simulator.last_close, (3000, "are you there?"))

    def test_throttle_rejects_handshakes(self) -> None:
        """They get 429 with Retry-After, then one succeeds."""
        self.inject(FaultKind.THROTTLE, count=2, retry_after=7)
        for _ in range(2):
            client = self.connect()
            self.assertIn("429", client.http_status_line)
            self.assertEqual(client.http_headers["retry-after"], "7")
        self.assertEqual(self.connect(AUTHENTICATE).messages, [AUTHORIZED])

    def test_refuse_rejects_logins(self) -> None:
        """Logins get `unauthorized` and a close while it lasts."""
        self.inject(FaultKind.REFUSE, seconds=10)
        client = self.connect(AUTHENTICATE)
        self.assertEqual((client.messages, client.closed), ([UNAUTHORIZED], (1000, None)))
        self.wires.advance(10)
        self.assertEqual(self.connect(AUTHENTICATE).messages, [AUTHORIZED])

    def test_refuse_with_message_sends_it(self) -> None:
        """The text of `unauthorized` is any."""
        self.inject(FaultKind.REFUSE, message="no such plan")
        [refusal] = self.connect(AUTHENTICATE).messages
        data = {"status": "unauthorized", "action": "authenticate", "message": "no such plan"}
        self.assertEqual(json.loads(refusal), {"stream": "authorization", "data": data})

    def test_limit_rejects_logins_in_either_format(self) -> None:
        """With a code the error is an array; then a login is accepted."""
        for details, frame in (
            (
                {},
                b'{"action":"error","data":{"error_message":"connection limit exceeded"}}',
            ),
            (
                {"code": 406, "message": "too many"},
                b'[{"T":"error","code":406,"msg":"too many"}]',
            ),
        ):
            self.inject(FaultKind.LIMIT, **details)
            client = self.connect(AUTHENTICATE, LISTEN)
            self.assertEqual((client.messages, client.closed), ([frame], (1000, None)))
            client = self.connect(AUTHENTICATE)
            self.assertEqual(client.messages, [AUTHORIZED])
            client.sendClose(1000)
            self.wires.flush()

    def test_repeat_sends_the_same_bytes(self) -> None:
        """The last events are sent again, byte for byte."""
        client = self.listener()
        sent = [self.simulator.emit({"event": "new", "event_id": str(n)}) for n in range(3)]
        self.inject(FaultKind.REPEAT, count=2)
        self.inject(FaultKind.REPEAT, count=99)
        self.assertEqual(client.messages, sent + sent[1:] + sent)

    def test_garbage_covers_every_kind(self) -> None:
        """Null data, invalid JSON, another stream, an error, and broken binary."""
        client = self.listener()
        self.inject(FaultKind.GARBAGE, count=6)
        self.assertEqual(json.loads(client.messages[0]), {"stream": "trade_updates", "data": None})
        self.assertEqual(client.binary[-6:], [False, False, False, False, True, False])
        self.assertEqual(client.messages[5], client.messages[0])
        self.assertTrue(self.simulator.connected)

    def test_burst_is_one_write(self) -> None:
        """All events leave in one write, in order, each with its own id."""
        client = self.listener()
        self.simulator.inject(Fault(FaultKind.BURST, count=500))
        self.assertEqual(len(self.server.transport.stream), 1)
        self.wires.flush()
        ids = [json.loads(message)["data"]["event_id"] for message in client.messages]
        self.assertEqual((len(ids), ids), (500, sorted(set(ids))))
