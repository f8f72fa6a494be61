"""Tests for tradeproxy.cluster.redis_replies, with a hostile server over real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.cluster.test_redis_client import PATIENCE, settings
from tradeproxy.cluster.redis_client import RedisClient, RedisUnavailableError, ReplyTooLargeError
from tradeproxy.cluster.redis_replies import INVALID, TOO_LARGE, UNEXPECTED

reactor: Any = chosen


class Server(Protocol):
    """Answers every read with fixed bytes, in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        for piece in self._pieces:
            self.transport.write(piece)


class RedisReplyTests(TestCase):
    """Replies that fill the memory or block the reactor close the connection."""

    async def call(self, *pieces: bytes) -> Any:
        """Send a command to a server that answers it with these bytes; return the reply."""
        listening = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        port = await listening.listen(Factory.forProtocol(lambda: Server(*pieces)))
        self.addCleanup(port.stopListening)
        self.client = RedisClient(settings(f"redis://127.0.0.1:{port.getHost().port}"), reactor)
        up: Deferred[None] = Deferred()
        self.down: Deferred[str] = Deferred()
        self.client.on_up = lambda: None if up.called else up.callback(None)
        self.client.on_down = lambda why: None if self.down.called else self.down.callback(why)
        self.client.open()
        self.addCleanup(self.client.close)
        await up.addTimeout(PATIENCE, reactor)
        return await self.client.call("PING", timeout=PATIENCE)

    async def test_reply_over_the_limits_raises_too_large(self) -> None:
        """A length of ten digits reserved 8 GB; 1.5 s at full speed are a gigabyte."""
        for pieces in (
            (b"*1000000000\r\n",),
            (b"*2\r\n:1\r\n*1000", b"00\r\n"),
            (b"*99999\r\n", *[b"*0\r\n" * 1000] * 99, b"*0\r\n" * 999 + b"$1\r\n"),
            (b"$500000000\r\n", *[b"x" * 1024 * 1024] * 33),
        ):
            with self.assertRaises(ReplyTooLargeError) as caught:
                await self.call(*pieces)
            self.assertEqual(str(caught.exception), TOO_LARGE)
            self.assertEqual(self.client.last_error, TOO_LARGE)
            self.client.close()

    async def test_reply_within_the_limits_is_returned(self) -> None:
        """Each reply counts alone."""
        text = b"x" * 12 * 1024 * 1024
        self.assertEqual(await self.call(b"$%d\r\n" % len(text), text, b"\r\n"), text)
        self.assertEqual(await self.client.call("PING", timeout=PATIENCE), text)

    async def test_invalid_reply_closes_connection_without_traceback(self) -> None:
        """Text of another server, a length without end, 10,000 arrays in each other."""
        for reply in (
            b"HTTP/1.1 400 Bad Request\r\n",
            b"*99999999999999\r\n",
            b"*1\r\n" * 9999 + b":1\r\n",
        ):
            with self.assertRaises(RedisUnavailableError):
                await self.call(reply)
            self.assertIn(self.client.last_error, (INVALID, TOO_LARGE))
            self.client.close()

    async def test_replies_to_no_command_close_connection(self) -> None:
        """They were kept, one object each, for commands to come."""
        self.assertEqual(await self.call(b"+PONG\r\n" * 3), b"PONG")
        self.assertEqual(await self.down.addTimeout(PATIENCE, reactor), UNEXPECTED)
        await deferLater(reactor, 0)  # on_down must not close the client
