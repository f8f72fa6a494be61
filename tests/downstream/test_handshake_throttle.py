"""Tests for tradeproxy.downstream.handshake_limits."""

from __future__ import annotations

from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTH, AUTHENTICATED, FILL
from tests.support.memory import SERVER
from tests.support.plain import Kernel
from tests.support.proxy import ProxyTestCase
from tradeproxy.downstream.handshake_limits import PER_TURN, HandshakeThrottle


class Line:
    """As much of a transport as it takes."""

    connected = True
    disconnecting = False
    reads = True

    def pauseProducing(self) -> None:
        self.reads = False

    def resumeProducing(self) -> None:
        self.reads = True

    def abortConnection(self) -> None:
        self.connected = False


class DoorTests(SynchronousTestCase):
    """Newcomers, more than there are places."""

    def setUp(self) -> None:
        self.clock = Kernel()
        self.door = HandshakeThrottle(self.clock)
        self.served: list[bytes] = []
        self.lines: list[Line] = []

    def arrive(self, count: int) -> None:
        for _ in range(count):
            self.lines.append(Line())
            self.door.submit(self.lines[-1], self.served.append, b"%d" % len(self.lines))

    def test_a_few_pass_as_if_it_were_not_there(self) -> None:
        """Turn after turn."""
        for turn in range(1, 4):
            self.arrive(PER_TURN)
            self.assertEqual(len(self.served), turn * PER_TURN)
            self.clock.turn()
        self.assertTrue(all(line.reads for line in self.lines))

    def test_the_others_come_in_their_turns(self) -> None:
        """In order, even before those who come later; nothing is read of those who wait."""
        self.arrive(2 * PER_TURN + 1)
        self.assertEqual(len(self.served), PER_TURN)
        self.assertEqual([line.reads for line in self.lines[PER_TURN:]], [False] * (PER_TURN + 1))
        self.clock.turn()
        self.arrive(1)
        self.assertEqual(len(self.served), 2 * PER_TURN)
        self.clock.turn()
        self.assertEqual(self.served, [b"%d" % number for number in range(1, 2 * PER_TURN + 3)])
        self.assertTrue(all(line.reads for line in self.lines))
        self.clock.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_is_gone_takes_no_ones_time(self) -> None:
        """Lost, or about to be."""
        self.arrive(PER_TURN + 3)
        self.lines[-3].connected = False
        self.lines[-2].disconnecting = True
        self.clock.turn()
        self.assertEqual(self.served[PER_TURN:], [b"%d" % (PER_TURN + 3)])

    def test_who_is_gone_from_behind_a_wrapper_neither(self) -> None:
        """What reads HAProxy's header, or TLS, says "connected" for ever."""
        self.arrive(PER_TURN)
        haproxy, outer = (
            HAProxyWrappingFactory(Factory.forProtocol(Protocol)),
            WrappingFactory(None),
        )
        for gone in ("connected", "lost", "leaving"):
            line, wrapper = Line(), haproxy.buildProtocol(SERVER)
            wrapper.makeConnection(line)
            around = ProtocolWrapper(outer, Protocol())
            around.makeConnection(wrapper)
            self.door.submit(around, self.served.append, gone.encode())
            if gone == "lost":
                wrapper.abortConnection()
            if gone == "leaving":
                wrapper.disconnecting = 1
        self.clock.turn()
        self.assertEqual(self.served[PER_TURN:], [b"connected"])

    def test_what_one_read_brought_stays_together(self) -> None:
        """Over TLS it comes in several pieces."""
        self.arrive(PER_TURN + 1)
        self.door.submit(self.lines[-1], self.served.append, b"its second piece")
        self.assertEqual(len(self.served), PER_TURN)
        self.clock.turn()
        self.assertEqual(self.served[PER_TURN:], [b"%d" % (PER_TURN + 1), b"its second piece"])

    def test_the_failure_of_one_keeps_nobody_waiting(self) -> None:
        """It loses its connection; those behind it are served in the same turn, and in the next."""

        def fail(data: bytes) -> None:
            raise ZeroDivisionError

        self.arrive(PER_TURN)
        bad = Line()
        self.door.submit(bad, fail, b"")
        self.arrive(2 * PER_TURN)
        self.clock.turn(3)
        self.assertEqual(len(self.served), 3 * PER_TURN)
        self.assertFalse(bad.connected)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class CrowdAtTheDoorTests(ProxyTestCase):
    """The real thing."""

    def test_all_are_served_and_a_stream_goes_on_meanwhile(self) -> None:
        """Requests, and then auth messages, many at once."""
        patient = self.connect()
        self.say(patient, AUTH)
        clients = [self.connect() for _ in range(3 * PER_TURN)]
        self.publish(self.paper, FILL)
        self.assertEqual(patient.taken(), [FILL])
        for client in clients:
            self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])
