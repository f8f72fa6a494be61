"""Tests for tradeproxy.cluster.redis_client in fake time, with a server that the test plays."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.cluster.redis_client import RedisClient, RedisUnavailableError, probe_redis
from tradeproxy.config.storage import RedisSettings
from tradeproxy.wire.credentials import Secret

SOCKET = "/run/redis.sock"


def make_settings(password: str | None = None) -> RedisSettings:
    """Return the settings for a UNIX socket."""
    secret = None if password is None else Secret(password)
    return RedisSettings("", 0, SOCKET, False, None, secret, 0)


class Server:
    """The server's side of the connections that a client opens in a fake reactor."""

    def __init__(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.transport = StringTransport()
        self._protocol: Any = None

    @property
    def attempts(self) -> int:
        """How often the client has tried to connect."""
        return len(self.reactor.unixClients)

    def accept(self) -> None:
        """Accept the newest connection."""
        factory = self.reactor.unixClients[-1][1]
        self._protocol = factory.buildProtocol(UNIXAddress(SOCKET))
        self.transport = StringTransport()
        self._protocol.makeConnection(self.transport)

    def refuse(self) -> None:
        """Refuse the newest connection."""
        factory = self.reactor.unixClients[-1][1]
        factory.clientConnectionFailed(None, Failure(ConnectError()))

    def reply(self, data: bytes) -> None:
        """Send bytes."""
        self._protocol.dataReceived(data)

    def lose(self) -> None:
        """Lose the connection, as a client's abort or an outage does."""
        self._protocol.connectionLost(Failure(ConnectionDone()))

    def take_commands(self) -> bytes:
        """Return what the client has sent since the last call."""
        data = self.transport.value()
        self.transport.clear()
        return bytes(data)


class ClientCase(SynchronousTestCase):
    """Has a server, and clients of it."""

    def setUp(self) -> None:
        self.server = Server()
        self.reactor = self.server.reactor
        self.reports: list[str] = []
        """What a client has reported: "up", or the reason why it is down."""

    def open_client(self, password: str | None = None) -> RedisClient:
        """Return an open client."""
        client = RedisClient(make_settings(password), self.reactor)
        client.on_up = lambda: self.reports.append("up")
        client.on_down = self.reports.append
        client.open()
        self.addCleanup(client.close)
        return client


class RedisClientTimesTests(ClientCase):
    """Each step is bounded in time."""

    def test_connect_takes_two_seconds_at_most(self) -> None:
        """The next attempt follows half a second after the failure."""
        self.open_client()
        self.assertEqual(self.reactor.unixClients[0][2], 2.0)
        self.server.refuse()
        self.reactor.advance(0.4)
        self.assertEqual(self.server.attempts, 1)
        self.reactor.advance(0.1)
        self.assertEqual(self.server.attempts, 2)
        self.assertEqual(len(self.reports), 1)

    def test_login_takes_two_seconds_at_most(self) -> None:
        """A server that accepts connections and sends nothing does not stop the retries."""
        client = self.open_client("secret")
        self.server.accept()
        self.reactor.advance(1.9)
        self.assertFalse(self.server.transport.disconnected)
        self.reactor.advance(0.1)
        self.assertTrue(self.server.transport.disconnected)
        self.assertEqual((self.reports, client.is_up), ([], False))
        self.server.lose()
        self.assertEqual(self.reports, ["it does not answer within 2 s at the login"])
        self.reactor.advance(0.5)
        self.assertEqual(self.server.attempts, 2)
        self.server.accept()
        self.server.reply(b"+OK\r\n")
        self.assertEqual((self.reports[1:], client.is_up), (["up"], True))

    def test_connection_lost_at_login_is_reported(self) -> None:
        """Redis gave no reason."""
        client = self.open_client("secret")
        self.server.accept()
        self.server.lose()
        self.assertEqual(self.reports, ["the connection was lost at the login"])
        self.assertEqual(client.last_error, self.reports[0])

    def test_reply_takes_one_and_a_half_seconds_at_most(self) -> None:
        """The connection is aborted, and replaced."""
        client = self.open_client()
        self.server.accept()
        reply = client.call("PING")
        self.reactor.advance(1.4)
        self.assertNoResult(reply)
        self.reactor.advance(0.1)
        error = self.failureResultOf(reply, RedisUnavailableError).value
        self.assertEqual(str(error), "it does not answer within 1.5 s")
        self.assertTrue(self.server.transport.disconnected)
        self.assertEqual((self.reports, client.is_up), (["up", str(error)], False))
        self.server.lose()
        self.assertEqual(len(self.reports), 2)
        self.reactor.advance(0.5)
        self.assertEqual(self.server.attempts, 2)

    def test_late_failure_of_older_connection_keeps_newer_one(self) -> None:
        """Its commands fail when the system reports the end of the aborted connection."""
        client = self.open_client()
        self.server.accept()
        waiting = [client.call("PING", timeout=seconds) for seconds in (1, 9)]
        self.reactor.advance(1)
        self.failureResultOf(waiting[0], RedisUnavailableError)
        self.server.lose()
        self.failureResultOf(waiting[1], RedisUnavailableError)
        self.reactor.advance(0.5)
        self.server.accept()
        self.assertTrue(client.is_up)
        self.assertEqual(self.reports, ["up", "it does not answer within 1 s", "up"])

    def test_client_without_callbacks_reconnects(self) -> None:
        """A caller may ignore its state."""
        client = RedisClient(make_settings(), self.reactor)
        self.addCleanup(client.close)
        client.open()
        self.server.accept()
        self.server.lose()
        self.reactor.advance(0.5)
        self.server.accept()
        self.assertTrue(client.is_up)

    def test_close_ends_connection_in_every_state(self) -> None:
        """No timer and no attempt is left, and nothing is reported."""
        for password, steps in (
            (None, ()),
            ("secret", (self.server.accept,)),
            (None, (self.server.accept,)),
            (None, (self.server.refuse,)),
        ):
            client = self.open_client(password)
            for step in steps:
                step()
            attempts, reports = self.server.attempts, list(self.reports)
            client.close()
            if self.server.accept in steps:
                self.assertTrue(self.server.transport.disconnected)
                self.server.lose()
            self.reactor.advance(5)
            self.assertEqual(self.reactor.getDelayedCalls(), [])
            self.assertEqual((self.server.attempts, self.reports), (attempts, reports))


class ProbeTests(ClientCase):
    """`tradeproxy check` asks Redis for its version and its limits."""

    def probe(self, info: str) -> str | None:
        """Return the result for Redis' reply to INFO."""
        result = Deferred.fromCoroutine(probe_redis(make_settings(), self.reactor))
        self.server.accept()
        self.assertEqual(self.server.take_commands(), b"")
        self.reactor.advance(0)
        self.assertIn(b"INFO", self.server.take_commands())
        data = info.encode()
        self.server.reply(b"$%d\r\n%s\r\n" % (len(data), data))
        self.assertTrue(self.server.transport.disconnected)
        self.server.lose()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        return self.successResultOf(result)

    def test_version_must_be_6_2_at_least(self) -> None:
        """XTRIM has had MINID since then."""
        listener = "listener0:name=tcp,bind=::1,port=6379"
        for version, is_suitable in (
            ("6.2.0", True),
            ("6.2.14", True),
            ("6.10.0", True),
            ("7.0.15", True),
            ("10.1.0", True),
            ("6.1.9", False),
            ("5.9.9", False),
            ("", False),
        ):
            reason = self.probe(f"# Server\r\nredis_version:{version}\r\n{listener}\r\n")
            expected = f"its version is {version}; the log needs 6.2 or newer"
            self.assertEqual(reason, None if is_suitable else expected)

    def test_policy_must_not_evict_log(self) -> None:
        """Without a limit of memory nothing is evicted."""
        expected = (
            "its maxmemory-policy is allkeys-lru, which can evict the log; the log needs noeviction"
        )
        for policy, maxmemory, reason in (
            ("noeviction", "0", None),
            ("noeviction", "100", None),
            ("allkeys-lru", "0", None),
            ("allkeys-lru", "100", expected),
        ):
            info = f"redis_version:7.0.0\r\nmaxmemory:{maxmemory}\r\nmaxmemory_policy:{policy}\r\n"
            self.assertEqual(self.probe(info), reason)

    def test_failed_probe_leaves_no_timer(self) -> None:
        """It tries once."""
        result = Deferred.fromCoroutine(probe_redis(make_settings(), self.reactor))
        self.server.refuse()
        self.reactor.advance(0)
        self.assertRegex(self.successResultOf(result) or "", "^cannot connect: ")
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.server.attempts, 1)
