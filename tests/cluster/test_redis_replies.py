"""Tests for tradeproxy.cluster.redis_replies, with a hostile server over real sockets."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.cluster.test_redis_client import PATIENCE, settings
from tests.support.listening import listen
from tradeproxy.cluster.redis_client import RedisClient, RedisUnavailableError, ReplyTooLargeError
from tradeproxy.cluster.redis_replies import INVALID, TOO_LARGE, UNEXPECTED

reactor: Any = chosen

PASSWORD = "correct-horse-battery"


class Server(Protocol):
    """Answers every read with fixed bytes, in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        for piece in self._pieces:
            self.transport.write(piece)


class InTurn(Protocol):
    """Answers each read with the next reply."""

    def __init__(self, replies: tuple[bytes, ...]) -> None:
        self._replies = iter(replies)

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(next(self._replies, b""))


class RedisReplyTests(TestCase):
    """Replies that fill the memory or block the reactor close the connection."""

    async def call(self, *pieces: bytes) -> Any:
        """Send a command to a server that answers it with these bytes; return the reply."""
        port = await listen(self, Factory.forProtocol(lambda: Server(*pieces)))
        self.client = RedisClient(settings(f"redis://127.0.0.1:{port}"), reactor)
        up: Deferred[None] = Deferred()
        self.down: Deferred[str] = Deferred()
        self.client.on_up = lambda: None if up.called else up.callback(None)
        self.client.on_down = lambda why: None if self.down.called else self.down.callback(why)
        self.client.open()
        self.addCleanup(self.client.close)
        await up.addTimeout(PATIENCE, reactor)
        return await self.client.call("PING", timeout=PATIENCE)

    async def call_after_login(self, *replies: bytes) -> Any:
        """Log in and send a command, with one reply for each; return the last one.

        Fails with RedisUnavailableError if the login is refused.
        """
        port = await listen(self, Factory.forProtocol(lambda: InTurn(replies)))
        url = f"redis://:{PASSWORD}@127.0.0.1:{port}"
        self.client = RedisClient(settings(url), reactor)
        changed: Deferred[None] = Deferred()
        self.client.on_up = lambda: None if changed.called else changed.callback(None)
        self.client.on_down = lambda _: None if changed.called else changed.callback(None)
        self.client.open()
        self.addCleanup(self.client.close)
        await changed.addTimeout(PATIENCE, reactor)
        await deferLater(reactor, 0)  # the callbacks must not close the client
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
        text = b"x" * 10 * 1024 * 1024
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

    async def test_error_that_repeats_the_password_is_quoted_without_it(self) -> None:
        """It was in the log, in /readyz and in proxy_status: whole, in part, split or encoded.

        A server in the place of Redis has the password from the login. Control characters are
        escaped, as `tradeproxy check` prints the error.
        """
        for echo in (PASSWORD, PASSWORD[3:], b64encode(PASSWORD.encode()).decode(), "cor rect-h"):
            login = f"-ERR {echo} \x1b[2J\r\n".encode()
            for replies in ((login,), (b"+OK\r\n", login)):
                with self.assertRaises(RedisUnavailableError) as caught:
                    await self.call_after_login(*replies)
                for reason in (str(caught.exception), self.client.last_error):
                    self.assertRegex(reason, r"(ERR )?\.\.\.( \\x1b\[2J)?$")
                    self.assertNotRegex(reason, f"{PASSWORD[3:]}|{echo}|\x1b")
                self.client.close()

    async def test_error_that_repeats_an_event_is_quoted_without_it(self) -> None:
        """Redis without a command repeats the arguments: the log never contains an event."""
        error = b"-ERR unknown command 'XADD', with args beginning with: '{}' \r\n"
        with self.assertRaises(RedisUnavailableError) as caught:
            await self.call(error)
        self.assertEqual(str(caught.exception), "it says ERR unknown command 'XADD'")

    async def test_replies_to_no_command_close_connection(self) -> None:
        """They were kept, one object each, for commands to come."""
        self.assertEqual(await self.call(b"+PONG\r\n" * 3), b"PONG")
        self.assertEqual(await self.down.addTimeout(PATIENCE, reactor), UNEXPECTED)
        await deferLater(reactor, 0)  # on_down must not close the client
