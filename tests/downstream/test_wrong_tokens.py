"""Tests for tradeproxy.downstream.admission, and for the answers to wrong tokens."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTHENTICATED
from tests.support.proxy import Client, ProxyTestCase, RawClient
from tradeproxy.downstream import admission
from tradeproxy.downstream.admission import MAX_WRONG, WrongTokens

TOKEN = "a-token-of-some-length"
AUTH = b'{"action":"auth","key":"%s","secret":""}'
UNAUTHORIZED = (
    b'{"stream":"authorization","data":{"status":"unauthorized","action":"authenticate"}}'
)


class WrongTokensTests(SynchronousTestCase):
    """The count of one address, and the table."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.table = WrongTokens(self.clock.seconds)

    def record(self, count: int, address: str = "192.0.2.1") -> list[float]:
        """Record wrong tokens, and return the delays."""
        return [self.table.record(address) for _ in range(count)]

    def test_eleventh_wrong_token_in_a_minute_is_delayed(self) -> None:
        """Ten a minute are answered at once: a program with an old token logs the reason soon."""
        self.assertEqual(self.record(12), [0.0] * 10 + [1.0] * 2)
        self.assertEqual(self.record(1, "192.0.2.2"), [0.0])
        self.clock.advance(59.875)
        self.assertEqual(self.record(1), [1.0])
        self.clock.advance(0.125)
        self.assertEqual(self.record(11), [0.0] * 10 + [1.0])

    def test_addresses_of_one_network_share_a_count(self) -> None:
        """A host of IPv6 has 2**64 addresses: each of them had ten guesses a minute."""
        delays = [self.record(1, f"2001:db8::{n}")[0] for n in range(11)]
        self.assertEqual(delays, [0.0] * 10 + [1.0])
        self.assertEqual(self.record(1, "2001:db8:0:1::"), [0.0])

    def test_table_is_bounded(self) -> None:
        """An attacker may have as many addresses as it likes, with IPv6."""
        self.patch(admission, "MAX_ADDRESSES", 3)
        self.record(10)
        for n in range(3):
            self.record(10, f"2001:db8:{n}::1")
        self.assertEqual(len(self.table), 3)
        self.assertEqual(self.record(1, "2001:db8:2::1"), [1.0])
        self.assertEqual(self.record(1), [0.0])


class WrongTokenAnswerTests(ProxyTestCase):
    """Guessing is slow on every path that needs a token."""

    tokens = (TOKEN,)

    def use_up(self) -> None:
        """Send as many wrong tokens as are answered at once."""
        for _ in range(MAX_WRONG):
            self.assertEqual(self.get("/status.json", "wrong").status, 401)

    def get(self, path: str, token: str, method: str = "GET") -> RawClient:
        """Send a request with a token."""
        return self.request(path, method, Authorization=f"Bearer {token}")

    def log_in(self, token: str) -> Client:
        """Connect a WebSocket, and send an auth message with a token."""
        client = self.connect()
        self.factory.clients.rejections.counts.clear()
        client.sendMessage(AUTH % token.encode())
        self.wires.flush()
        return client

    def test_response_to_a_wrong_token_is_delayed_by_a_second(self) -> None:
        """The status and the body are the same."""
        self.use_up()
        for method in ("GET", "HEAD"):
            client = self.get("/metrics", "wrong", method)
            self.wires.advance(0.9)
            self.assertEqual(client.received, b"")
            self.wires.advance(0.2)
            self.assertEqual(client.status, 401)
            self.assertIn(b"WWW-Authenticate: Bearer\r\n", client.received)
            self.assertRegex(client.received.decode(), "Content-Length: [1-9]")
            self.assertEqual(client.body.count("PROXY_TOKENS"), int(method == "GET"))
            self.assertFalse(client.gone)

    def test_answer_on_a_websocket_is_delayed_by_a_second(self) -> None:
        """So is the close frame: it shows the same."""
        for _ in range(MAX_WRONG):
            client = self.log_in("wrong")
            self.assertEqual(
                (client.taken(), client.closed and client.closed[0]), ([UNAUTHORIZED], 4001)
            )
        client = self.log_in("wrong")
        client.sendMessage(AUTH % TOKEN.encode())  # too late: it must connect again
        self.wires.advance(0.9)
        self.assertEqual((client.taken(), client.closed), ([], None))
        self.wires.advance(0.2)
        self.assertEqual(
            (client.taken(), client.closed and client.closed[0]), ([UNAUTHORIZED], 4001)
        )

    def test_right_token_is_never_delayed(self) -> None:
        """A program with an old token on the same machine must not slow the others."""
        self.use_up()
        self.assertEqual(self.log_in(TOKEN).taken(), [AUTHENTICATED])
        for path in ("/status.json", "/metrics", "/readyz"):
            self.assertIn(self.get(path, TOKEN).status, (200, 503))

    def test_missing_token_is_no_guess(self) -> None:
        """A monitor without a token does not slow a client that mistypes its own."""
        for _ in range(2 * MAX_WRONG):
            self.assertEqual(self.request("/metrics").status, 401)
            self.request("/readyz")
        self.assertEqual(self.get("/metrics", "wrong").status, 401)

    def test_readyz_does_not_help_guessing(self) -> None:
        """It needs no token, but it shows more with one."""
        for _ in range(MAX_WRONG):
            self.assertEqual(self.get("/readyz", "wrong").status, 503)
        client = self.get("/readyz", "wrong")
        self.assertEqual(client.received, b"")
        self.wires.advance(1)
        self.assertEqual(client.status, 503)
        self.assertNotIn('"last"', client.body)

    def test_client_that_leaves_during_the_delay_is_forgotten(self) -> None:
        """Its answer would be written to a closed connection."""
        self.use_up()
        client, guesser = self.get("/metrics", "wrong"), self.log_in("wrong")
        assert client.transport is not None
        client.transport.loseConnection()
        guesser.sendClose(1000)
        self.wires.advance(2)
        self.assertEqual((client.received, guesser.taken()), (b"", []))
        self.assertEqual(len(self.factory.clients), 0)
