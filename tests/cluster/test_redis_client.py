"""Tests for tradeproxy.cluster.redis_client, with a real redis-server and real sockets."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.listening import listen
from tests.support.processes import spawn
from tests.support.redis import PROGRAM, Redis, need_redis
from tradeproxy.cluster.redis_client import (
    REPLY_TIMEOUT,
    RETRY,
    NoScriptError,
    RedisClient,
    RedisUnavailableError,
    probe_redis,
)
from tradeproxy.config.env import Environment, Findings
from tradeproxy.config.storage import RedisSettings, read_redis

reactor: Any = chosen

SECRET = "correct-horse"
PATIENCE = 10.0


def settings(url: str) -> RedisSettings:
    """Return the settings for a PROXY_REDIS_URL."""
    found = read_redis(Environment({"PROXY_REDIS_URL": url}, Path(), Findings()))
    assert found is not None
    return found


class RedisClientCase(TestCase):
    """Has a redis-server of its own."""

    def setUp(self) -> None:
        need_redis()

    async def start_redis(self, **options: Any) -> Redis:
        """Start a redis-server; it is killed after the test."""
        redis = Redis(**options)
        await redis.start()
        self.addCleanup(lambda: ensureDeferred(redis.kill()))
        return redis

    def open_client(self, url: str) -> RedisClient:
        """Return an open client; each call of its callbacks fires `changed`."""
        client = RedisClient(settings(url), reactor)
        self.reasons: list[str] = []
        self.changed: Deferred[None] = Deferred()
        client.on_up = self._fire
        client.on_down = self._record
        client.open()
        self.addCleanup(client.close)
        return client

    def _record(self, reason: str) -> None:
        self.reasons.append(reason)
        self._fire()

    def _fire(self) -> None:
        changed, self.changed = self.changed, Deferred()
        changed.callback(None)

    async def wait_for_change(self) -> None:
        """Wait for the next call of on_up or on_down."""
        await self.changed.addTimeout(PATIENCE, reactor)
        await deferLater(reactor, 0)  # the callbacks must not close the client

    async def wait_until_up(self, client: RedisClient) -> None:
        """Wait until the client is up."""
        while not client.is_up:
            await self.wait_for_change()


class RedisConnectTests(RedisClientCase):
    """A client connects, or reports the reason."""

    async def test_call_returns_reply_as_bytes(self) -> None:
        """An unknown script has an error of its own."""
        redis = await self.start_redis()
        client = self.open_client(redis.url)
        self.assertFalse(client.is_up)
        await self.failUnlessFailure(client.call("PING"), RedisUnavailableError)
        await self.wait_until_up(client)
        self.assertEqual(await client.call("SET", "a", b"\xff\x00"), b"OK")
        self.assertEqual(await client.call("GET", "a"), b"\xff\x00")
        self.assertEqual(await client.call("EVAL", "return {1, false, 'x'}", 0), [1, None, b"x"])
        await self.failUnlessFailure(client.call("EVALSHA", "0" * 40, 0), NoScriptError)
        self.assertTrue(client.is_up)

    async def test_login_with_password_and_database(self) -> None:
        """Over TCP and over a UNIX socket."""
        redis = await self.start_redis(password=SECRET)
        for url in (redis.url, redis.unix_url, redis.url.replace("/0", "/3")):
            client = self.open_client(url)
            await self.wait_until_up(client)
            self.assertEqual(await client.call("DBSIZE"), 0)
        await client.call("SET", "a", "b")
        self.assertEqual(await redis.cli("-n", "3", "GET", "a"), "b")

    async def test_wrong_password_is_reported_without_password(self) -> None:
        """The client retries, since the server's password may be corrected."""
        redis = await self.start_redis(password="another")
        client = self.open_client(redis.url.replace("another", SECRET))
        for _ in range(2):
            await self.wait_for_change()
            self.assertFalse(client.is_up)
        for reason in (*self.reasons, client.last_error):
            self.assertRegex(reason, "^could not auth: WRONGPASS")
            self.assertNotIn(SECRET, reason)
        self.assertEqual(len(self.reasons), 2)

    async def test_error_that_repeats_auth_arguments_has_no_secret(self) -> None:
        """A Redis without AUTH repeats its arguments; the reason is one line without them."""
        # A short name: the path of a UNIX socket may have 107 bytes.
        directory = tempfile.mkdtemp(prefix="redis-")
        self.addCleanup(shutil.rmtree, directory)
        options = ["--port", "0", "--unixsocket", "s", "--save", "", "--rename-command", "AUTH", ""]
        redis = spawn([str(shutil.which(PROGRAM)), *options], directory, {})
        self.addCleanup(lambda: ensureDeferred(redis.stop("KILL")))
        await redis.says("ready to accept connections")
        for login in (
            f":{SECRET}",
            f"somebody:{SECRET}",
            f":{20 * SECRET}",
        ):  # Redis repeats 128 bytes
            url = f"unix://{login}@{directory}/s?db=0"
            client = self.open_client(url)
            await self.wait_for_change()
            self.assertRegex(client.last_error, "unknown command")
            for reason in (
                *self.reasons,
                client.last_error,
                await probe_redis(settings(url), reactor) or "",
            ):
                self.assertNotRegex(reason, f"{SECRET}|somebody|[\\r\\n]")
            client.close()

    async def test_missing_password_is_reported_by_first_command(self) -> None:
        """Redis accepts the connection itself."""
        redis = await self.start_redis(password=SECRET)
        client = self.open_client(f"redis://127.0.0.1:{redis.port}")
        await self.wait_until_up(client)
        await self.failUnlessFailure(client.call("PING"), RedisUnavailableError)
        self.assertRegex(client.last_error, "^it says NOAUTH")

    async def test_connect_without_server_is_reported(self) -> None:
        """At a port, and at the path of a UNIX socket."""
        redis = await self.start_redis()
        await redis.kill()
        for url in (redis.url, "unix:///nowhere/redis.sock?db=0"):
            client = self.open_client(url)
            await self.wait_for_change()
            self.assertRegex(client.last_error, "^cannot connect: ")
            client.close()

    async def test_connection_closed_during_login_is_reported(self) -> None:
        """The server is not a Redis and closes at once."""

        class Closer(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        port = await listen(self, Factory.forProtocol(Closer))
        client = self.open_client(f"redis://:{SECRET}@127.0.0.1:{port}")
        await self.wait_for_change()
        self.assertFalse(client.is_up)
        self.assertNotIn(SECRET, client.last_error)

    async def test_close_is_possible_in_every_state(self) -> None:
        """Before it is open, while it connects or logs in, and twice."""
        redis = await self.start_redis(password=SECRET)
        RedisClient(settings(redis.url), reactor).close()
        client = self.open_client(redis.url)
        client.close()
        client.close()
        redis.pause()
        client = self.open_client(redis.url)
        other = RedisClient(settings(redis.url), reactor)
        other.open()
        await deferLater(reactor, 0.05)  # the last one is in the middle of its login
        other.close()
        client.close()
        redis.resume()
        self.assertEqual(self.reasons, [])

    async def test_close_fails_pending_commands_and_ends_retries(self) -> None:
        """No callback is called."""
        redis = await self.start_redis()
        client = self.open_client(redis.url)
        await self.wait_until_up(client)
        waiting = client.call("BLPOP", "nothing", 0)
        client.close()
        await self.failUnlessFailure(waiting, RedisUnavailableError)
        self.assertFalse(client.is_up)
        self.assertEqual(self.reasons, [])


class RedisReconnectTests(RedisClientCase):
    """A client reports a lost connection, and reconnects."""

    async def test_restart_fails_pending_commands_and_reconnects(self) -> None:
        """Later commands go to the new server."""
        redis = await self.start_redis()
        client = self.open_client(redis.url)
        await self.wait_until_up(client)
        waiting = client.call("BLPOP", "nothing", 0, timeout=PATIENCE)
        lost = self.failUnlessFailure(waiting, RedisUnavailableError)
        await redis.restart(keep_data=False)
        self.assertEqual(str(await lost), "the connection was lost")
        await self.wait_until_up(client)
        self.assertEqual(self.reasons[0], "the connection was lost")
        self.assertEqual(await client.call("PING"), b"PONG")

    async def test_command_without_reply_times_out_and_reconnects(self) -> None:
        """A Redis that continues is used again."""
        redis = await self.start_redis()
        client = self.open_client(redis.url)
        await self.wait_until_up(client)
        redis.pause()
        self.addCleanup(lambda: redis.resume())
        began = reactor.seconds()
        await self.failUnlessFailure(client.call("PING", timeout=0.3), RedisUnavailableError)
        self.assertLess(reactor.seconds() - began, REPLY_TIMEOUT)
        self.assertEqual(
            (client.is_up, client.last_error), (False, "it does not answer within 0.3 s")
        )
        redis.resume()
        await self.wait_until_up(client)
        self.assertEqual(await client.call("PING"), b"PONG")
        self.assertLess(reactor.seconds() - began, RETRY + REPLY_TIMEOUT)

    async def test_cancelled_command_keeps_connection(self) -> None:
        """Its reply is not mistaken for that of another command."""
        redis = await self.start_redis()
        client = self.open_client(redis.url)
        await self.wait_until_up(client)
        cancelled = client.call("ECHO", "one")
        other = client.call("ECHO", "two")
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        self.assertEqual(await other, b"two")
        self.assertTrue(client.is_up)

    async def test_error_reply_closes_connection_and_reconnects(self) -> None:
        """The next connection may reach a Redis that works."""
        redis = await self.start_redis()
        client = self.open_client(redis.url)
        await self.wait_until_up(client)
        failed = await self.failUnlessFailure(client.call("NONSENSE"), RedisUnavailableError)
        self.assertRegex(str(failed), "^it says ERR unknown command")
        self.assertFalse(client.is_up)
        await self.wait_until_up(client)


class ProbeRedisTests(RedisClientCase):
    """`tradeproxy check` probes whether Redis is suitable for the log."""

    async def test_probe_of_suitable_redis_returns_none(self) -> None:
        """It is new enough and accepts the password."""
        redis = await self.start_redis(password=SECRET)
        self.assertIsNone(await probe_redis(settings(redis.url), reactor))

    async def test_probe_returns_reason_without_password(self) -> None:
        """Redis is away, or rejects the login."""
        redis = await self.start_redis(password=SECRET)
        for url, pattern in (
            ("redis://127.0.0.1:1", "^cannot connect: "),
            (redis.url.replace(SECRET, "wrong"), "^could not auth: WRONGPASS"),
            (f"redis://127.0.0.1:{redis.port}", "^it says NOAUTH"),
        ):
            reason = await probe_redis(settings(url), reactor)
            self.assertRegex(reason or "", pattern)
            self.assertNotIn(SECRET, reason or "")
