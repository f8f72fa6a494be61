"""Tests for the opening handshake, through the site."""

from __future__ import annotations

from base64 import b64encode

from tests.support.frames import AUTH, AUTHENTICATED, LISTEN, LISTENING
from tests.support.memory import CLIENT
from tests.support.plain import HANDSHAKE, TEXT
from tests.support.proxy import ProxyTestCase, RawClient
from tradeproxy.downstream import autobahn_slim
from tradeproxy.downstream.handshake_limits import PER_TURN

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455, 1.3."""

ANSWERS = (AUTHENTICATED, LISTENING)

GOOD = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


class OpeningHandshakeTests(ProxyTestCase):
    """The request of the opening handshake (RFC 6455, 4.2.1)."""

    def open(
        self,
        keys: tuple[str, ...] = (KEY,),
        begin: str = "GET /trade-updates-paper HTTP/1.1",
        **changed: str | None,
    ) -> RawClient:
        """Send a handshake with these keys and changed headers; None omits a header."""
        headers = GOOD | {name.replace("_", "-"): value for name, value in changed.items()}
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        lines += [f"Sec-WebSocket-Key: {key}" for key in keys]
        return self.write("\r\n".join([begin, "Host: localhost:8099", *lines, "", ""]).encode())

    def test_valid_handshake_gets_101_with_the_accept_value_of_the_key(self) -> None:
        """The value for this key is in RFC 6455, 1.3. Connection may have other tokens."""
        for connection in ("Upgrade", "upgrade", "keep-alive, Upgrade", "x ,UPGRADE,y"):
            response = self.open(Connection=connection)
            self.assertEqual(response.status, 101, connection)
            self.assertIn(
                b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", response.received
            )

    def test_other_method_or_http_version_is_400(self) -> None:
        """No connection becomes a WebSocket over HTTP/1.0, nor by a POST."""
        for begin in ("POST /trade-updates-paper HTTP/1.1", "GET /trade-updates-paper HTTP/1.0"):
            response = self.open(begin=begin)
            self.assertEqual(response.status, 400, begin)
            self.assertEqual(response.reason, "a WebSocket begins with GET and HTTP/1.1")

    def test_no_connection_upgrade_is_400(self) -> None:
        """The line names the header, since a proxy in front may have dropped it."""
        for connection in (None, "keep-alive", "Upgraded", "x-upgrade"):
            response = self.open(Connection=connection)
            self.assertEqual(
                (response.status, response.reason),
                (400, "a WebSocket begins with the header Connection: Upgrade"),
                connection,
            )

    def test_other_version_is_426_with_the_supported_version(self) -> None:
        """RFC 6455, 4.4 requires the header."""
        for version in (None, "8", "13, 8"):
            response = self.open(Sec_WebSocket_Version=version)
            self.assertEqual(response.status, 426, version)
            self.assertEqual(response.reason, "this speaks version 13 of WebSocket")
            self.assertIn(b"\r\nsec-websocket-version: 13\r\n", response.received.lower())

    def test_invalid_key_is_400(self) -> None:
        """A key is one header with 16 bytes in base64, which is always 24 characters."""
        cases = {
            "none": (),
            "two": (KEY, KEY),
            "empty": ("",),
            "15 bytes": (b64encode(bytes(15)).decode(),),
            "17 bytes": (b64encode(bytes(17)).decode(),),
            "no base64": (KEY.replace("=", "!"),),
            "without padding": (KEY.rstrip("="),),
            "more padding": (f"{KEY}=",),
            "more than padding": (f"{KEY}AAAA",),
            "padding first": (f"=={KEY[:-2]}",),
            "a blank inside": (f"{KEY[:4]} {KEY[4:]}",),
        }
        for name, keys in cases.items():
            response = self.open(keys)
            self.assertEqual(
                (response.status, response.reason),
                (400, "Sec-WebSocket-Key is to be 16 bytes in base64"),
                name,
            )


def frame(message: bytes) -> bytes:
    """Return a client's frame, with a mask of zeros."""
    return bytes([0x80 | TEXT, 0x80 | len(message), 0, 0, 0, 0]) + message


class EagerClientTests(ProxyTestCase):
    """A client that sends its login behind the request, without waiting for the 101.

    These bytes were dropped, so the client had no answer, and was closed for its silence.
    """

    LOGIN = (HANDSHAKE % b"/trade-updates-paper", frame(AUTH), frame(LISTEN))

    def test_login_in_the_read_of_the_request_is_accepted(self) -> None:
        """A frame may be cut in two there, and Autobahn may be an unsupported one."""
        data = b"".join(self.LOGIN)
        for is_supported in (True, False):
            self.patch(autobahn_slim, "IS_SUPPORTED", is_supported)
            for end in (len(data), len(data) - 1, len(self.LOGIN[0]) + 3):
                self.setUp()
                client = self.write(data[:end])
                assert client.transport is not None
                client.transport.write(data[end:])
                self.wires.flush()
                head, _, frames = client.received.partition(b"\r\n\r\n")
                self.assertIn(b" 101 ", head)
                answers = [bytes([0x80 | TEXT, len(each)]) + each for each in ANSWERS]
                self.assertEqual(frames, b"".join(answers), (is_supported, end))

    def test_login_that_waits_behind_the_request_is_accepted(self) -> None:
        """Over TLS each record of a read is a piece of its own, and waits for a turn of its own."""
        channel = self.site.buildProtocol(CLIENT)
        client = RawClient()
        self.wires.join(channel, client)
        for _ in range(PER_TURN):
            self.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, *frames = self.LOGIN
        for piece in (head[:40], head[40:] + frames[0][:3], frames[0][3:] + frames[1]):
            channel.dataReceived(piece)
        self.wires.flush()
        for answer in ANSWERS:
            self.assertIn(answer, client.received)
