"""Tests for the handshake throttle of tradeproxy.downstream.handshake_limits."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTH, AUTHENTICATED, FILL
from tests.support.memory import SERVER
from tests.support.plain import Kernel
from tests.support.proxy import ProxyTestCase
from tradeproxy.downstream.handshake_limits import (
    PER_TURN,
    ROOM_RETRY,
    HandshakeThrottle,
    bound_reads,
)


class FakeTransport:
    """The part of a transport that the throttle uses."""

    connected = True
    disconnecting = False
    reads = True
    bufferSize = 2**16

    def __init__(self, host: str = "192.0.2.1") -> None:
        self._host = host

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self._host, 50_000)

    def pauseProducing(self) -> None:
        self.reads = False

    def resumeProducing(self) -> None:
        self.reads = True

    def abortConnection(self) -> None:
        self.connected = False


class HandshakeThrottleTests(SynchronousTestCase):
    """More handshakes than one turn of the reactor handles."""

    def setUp(self) -> None:
        self.clock = Kernel()
        self.throttle = HandshakeThrottle(self.clock)
        self.handled: list[bytes] = []
        self.transports: list[FakeTransport] = []

    def submit(self, count: int) -> None:
        for _ in range(count):
            self.transports.append(FakeTransport())
            self.throttle.submit(
                self.transports[-1], self.handled.append, b"%d" % len(self.transports)
            )

    def test_turn_handles_32_handshakes(self) -> None:
        """They take about 5 ms together. The turns of the others are one timer."""
        self.submit(33)
        self.assertEqual((len(self.handled), len(self.clock.getDelayedCalls())), (32, 1))

    def test_few_handshakes_are_handled_at_once(self) -> None:
        """Every turn handles up to PER_TURN handshakes without a wait."""
        for turn in range(1, 4):
            self.submit(PER_TURN)
            self.assertEqual(len(self.handled), turn * PER_TURN)
            self.clock.turn()
        self.assertTrue(all(transport.reads for transport in self.transports))

    def test_excess_handshakes_wait_for_later_turns(self) -> None:
        """They are handled in order, before later ones. Waiting transports are paused."""
        self.submit(2 * PER_TURN + 1)
        self.assertEqual(len(self.handled), PER_TURN)
        self.assertEqual(
            [transport.reads for transport in self.transports[PER_TURN:]], [False] * (PER_TURN + 1)
        )
        self.clock.turn()
        self.submit(1)
        self.assertEqual(len(self.handled), 2 * PER_TURN)
        self.clock.turn()
        self.assertEqual(self.handled, [b"%d" % number for number in range(1, 2 * PER_TURN + 3)])
        self.assertTrue(all(transport.reads for transport in self.transports))
        self.clock.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_turn_counts_those_that_waited(self) -> None:
        """Others come in the same turn."""
        self.submit(PER_TURN + 2)
        self.clock.turn()
        self.submit(PER_TURN)
        self.assertEqual(len(self.handled), 2 * PER_TURN)

    def test_deferred_work_waits_for_a_later_turn_each_time(self) -> None:
        """A client that always has more to do is handled once a turn, behind the others."""
        endless, other = FakeTransport(), FakeTransport()

        def work(data: bytes) -> None:
            self.handled.append(data)
            self.throttle.defer(endless, work, b"again")

        self.throttle.submit(endless, work, b"first")
        self.throttle.submit(other, self.handled.append, b"other")
        self.assertEqual((self.handled, endless.reads, other.reads), ([b"first"], False, False))
        self.clock.turn()
        self.assertEqual(self.handled, [b"first", b"again", b"other"])
        self.clock.turn()
        self.assertEqual(self.handled[3:], [b"again"])
        self.throttle.discard(endless)

    def test_address_does_not_wait_behind_connections_of_another(self) -> None:
        """One address connected 3,000 times a second: a login of another one took up to 6 s."""
        self.submit(20 * PER_TURN)
        handled: list[bytes] = []
        for data in (b"1st", b"2nd"):
            self.throttle.submit(FakeTransport("192.0.2.2"), handled.append, data)
        self.clock.turn()
        self.assertEqual((handled, len(self.handled)), ([b"1st", b"2nd"], 2 * PER_TURN - 2))
        self.assertEqual(self.handled, [b"%d" % n for n in range(1, 2 * PER_TURN - 1)])

    def test_address_without_room_does_not_hold_up_another(self) -> None:
        """Only where none has room, all wait; within an address the newest stays first."""
        refused = {"192.0.2.2"}
        throttle = HandshakeThrottle(
            self.clock,
            make_room=lambda transport: transport.getPeer().host not in refused,
            newest_first=True,
        )
        for data in (b"old", b"middle", b"new"):
            throttle.submit(FakeTransport("192.0.2.2"), self.handled.append, data)
        throttle.submit(FakeTransport(), self.handled.append, b"other")
        self.clock.turn()
        self.assertEqual(self.handled, [b"other"])
        for waits in (False, True):  # the other one may have more
            [retry] = self.clock.getDelayedCalls()
            self.assertEqual(retry.getTime() - self.clock.seconds() > ROOM_RETRY / 2, waits)
            self.clock.turn()
        refused.clear()
        self.clock.advance(2 * ROOM_RETRY)
        self.assertEqual(self.handled, [b"other", b"new", b"middle", b"old"])

    def test_lost_connection_is_skipped(self) -> None:
        """A connection that is lost or closing is not handled."""
        self.submit(PER_TURN + 3)
        self.transports[-3].connected = False
        self.transports[-2].disconnecting = True
        self.clock.turn()
        self.assertEqual(self.handled[PER_TURN:], [b"%d" % (PER_TURN + 3)])

    def test_discarded_connection_uses_up_no_turn(self) -> None:
        """In a flood, most of the waiting connections are lost before their turn."""
        self.submit(3 * PER_TURN)
        for transport in self.transports[PER_TURN : 2 * PER_TURN]:
            self.throttle.discard(transport)
        self.clock.turn()
        self.assertEqual(
            self.handled[PER_TURN:],
            [b"%d" % number for number in range(2 * PER_TURN + 1, 3 * PER_TURN + 1)],
        )

    def test_reads_are_bounded_behind_wrappers(self) -> None:
        """64 KiB of 6-byte frames from each of 20 sockets blocked the reactor for 4 s."""
        transport = FakeTransport()
        wrapper = HAProxyWrappingFactory(Factory.forProtocol(Protocol)).buildProtocol(SERVER)
        wrapper.makeConnection(transport)
        bound_reads(wrapper)
        self.assertEqual(transport.bufferSize, 2048)

    def test_lost_connection_behind_wrapper_is_skipped(self) -> None:
        """The wrappers of HAProxy's header and of TLS stay `connected` after the loss."""
        self.submit(PER_TURN)
        haproxy, outer_factory = (
            HAProxyWrappingFactory(Factory.forProtocol(Protocol)),
            WrappingFactory(None),
        )
        for gone in ("connected", "lost", "leaving"):
            transport, wrapper = FakeTransport(), haproxy.buildProtocol(SERVER)
            wrapper.makeConnection(transport)
            outer_wrapper = ProtocolWrapper(outer_factory, Protocol())
            outer_wrapper.makeConnection(wrapper)
            self.throttle.submit(outer_wrapper, self.handled.append, gone.encode())
            if gone == "lost":
                wrapper.abortConnection()
            if gone == "leaving":
                wrapper.disconnecting = 1
        self.clock.turn()
        self.assertEqual(self.handled[PER_TURN:], [b"connected"])

    def test_pieces_of_one_read_are_handled_in_turns(self) -> None:
        """Over TLS one read arrives in up to 70 pieces, each of which may be a request.

        40 clients with 70 pings or requests in a read delayed the others by 250 ms.
        """
        self.submit(PER_TURN + 1)
        waiting = self.transports[-1]

        def work(data: bytes) -> None:
            self.handled.append(data)
            waiting.resumeProducing()  # as twisted.web does after a response

        for piece in (b"2nd", b"3rd"):
            self.throttle.submit(waiting, work, piece)
        handled, reads = [], []
        for _ in range(4):
            handled.append(self.handled[PER_TURN:])
            reads.append(waiting.reads)
            self.clock.turn()
        first = b"%d" % (PER_TURN + 1)
        self.assertEqual(handled, [[], [first], [first, b"2nd"], [first, b"2nd", b"3rd"]])
        # Otherwise it would send more than is handled, and that would be kept.
        self.assertEqual(reads, [False, False, False, True])

    def test_failed_handshake_aborts_only_its_connection(self) -> None:
        """The handshakes behind it are handled in the same turn and in the next."""

        def fail(data: bytes) -> None:
            raise ZeroDivisionError

        self.submit(PER_TURN)
        failing = FakeTransport()
        self.throttle.submit(failing, fail, b"")
        self.submit(2 * PER_TURN)
        self.clock.turn(3)
        self.assertEqual(len(self.handled), 3 * PER_TURN)
        self.assertFalse(failing.connected)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ManyHandshakesTests(ProxyTestCase):
    """Real requests and auth messages, many at once."""

    def test_many_handshakes_do_not_delay_events(self) -> None:
        """A subscriber gets its event while many clients connect and authenticate."""
        subscriber = self.connect()
        self.say(subscriber, AUTH)
        clients = [self.connect() for _ in range(3 * PER_TURN)]
        self.publish(self.paper, FILL)
        self.assertEqual(subscriber.taken(), [FILL])
        for client in clients:
            self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])
