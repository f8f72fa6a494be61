"""Tests for tradeproxy.cluster.redis_client, against a real redis-server over real sockets."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

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
    """Return what PROXY_REDIS_URL stands for."""
    found = read_redis(Environment({"PROXY_REDIS_URL": url}, Path(), Findings()))
    assert found is not None
    return found


class LinkCase(TestCase):
    """Has a Redis of its own."""

    def setUp(self) -> None:
        need_redis()

    async def server(self, **options: Any) -> Redis:
        redis = Redis(**options)
        await redis.start()
        self.addCleanup(lambda: ensureDeferred(redis.kill()))
        return redis

    def link(self, url: str) -> RedisClient:
        """Return one that is open; what it tells is fired at `told`."""
        link = RedisClient(settings(url), reactor)
        self.reasons: list[str] = []
        self.told: Deferred[None] = Deferred()
        link.on_up = self._tell
        link.on_down = self._note
        link.open()
        self.addCleanup(link.close)
        return link

    def _note(self, reason: str) -> None:
        self.reasons.append(reason)
        self._tell()

    def _tell(self) -> None:
        told, self.told = self.told, Deferred()
        told.callback(None)

    async def until_told(self) -> None:
        """Wait for the next thing that it tells."""
        await self.told.addTimeout(PATIENCE, reactor)
        await deferLater(reactor, 0)  # it may be closed then

    async def until_up(self, link: RedisClient) -> None:
        while not link.is_up:
            await self.until_told()


class ConnectingTests(LinkCase):
    """A link connects, and says why it cannot."""

    async def test_gives_commands(self) -> None:
        """Answers are bytes; an unknown script is said to be one."""
        redis = await self.server()
        link = self.link(redis.url)
        self.assertFalse(link.is_up)
        await self.failUnlessFailure(link.call("PING"), RedisUnavailableError)
        await self.until_up(link)
        self.assertEqual(await link.call("SET", "a", b"\xff\x00"), b"OK")
        self.assertEqual(await link.call("GET", "a"), b"\xff\x00")
        self.assertEqual(await link.call("EVAL", "return {1, false, 'x'}", 0), [1, None, b"x"])
        await self.failUnlessFailure(link.call("EVALSHA", "0" * 40, 0), NoScriptError)
        self.assertTrue(link.is_up)

    async def test_logs_in(self) -> None:
        """With a password, at a port or at a socket's file, and to a database of its own."""
        redis = await self.server(password=SECRET)
        for url in (redis.url, redis.unix_url, redis.url.replace("/0", "/3")):
            link = self.link(url)
            await self.until_up(link)
            self.assertEqual(await link.call("DBSIZE"), 0)
        await link.call("SET", "a", "b")
        self.assertEqual(await redis.cli("-n", "3", "GET", "a"), "b")

    async def test_a_wrong_password_is_one_clear_reason(self) -> None:
        """Without any part of the password; and there is another try, since it may be mended there."""
        redis = await self.server(password="another")
        link = self.link(redis.url.replace("another", SECRET))
        for _ in range(2):
            await self.until_told()
            self.assertFalse(link.is_up)
        for reason in (*self.reasons, link.last_error):
            self.assertRegex(reason, "^could not auth: WRONGPASS")
            self.assertNotIn(SECRET, reason)
        self.assertEqual(len(self.reasons), 2)

    async def test_a_redis_that_repeats_what_it_was_sent_tells_no_secret(self) -> None:
        """It knows no AUTH, and names the arguments; the reason is one line without them."""
        directory = tempfile.mkdtemp(
            prefix="redis-"
        )  # a short name: a socket's path may have 107 bytes
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
            link = self.link(url)
            await self.until_told()
            self.assertRegex(link.last_error, "unknown command")
            for reason in (
                *self.reasons,
                link.last_error,
                await probe_redis(settings(url), reactor) or "",
            ):
                self.assertNotRegex(reason, f"{SECRET}|somebody|[\\r\\n]")
            link.close()

    async def test_a_login_that_is_missing_is_said(self) -> None:
        """By the first command, as Redis takes the connection."""
        redis = await self.server(password=SECRET)
        link = self.link(f"redis://127.0.0.1:{redis.port}")
        await self.until_up(link)
        await self.failUnlessFailure(link.call("PING"), RedisUnavailableError)
        self.assertRegex(link.last_error, "^it says NOAUTH")

    async def test_nobody_there_is_said(self) -> None:
        """At a port, or where a socket's file should be."""
        redis = await self.server()
        await redis.kill()
        for url in (redis.url, "unix:///nowhere/redis.sock?db=0"):
            link = self.link(url)
            await self.until_told()
            self.assertRegex(link.last_error, "^cannot connect: ")
            link.close()

    async def test_somebody_else_there_is_said(self) -> None:
        """A server that closes at once, in the middle of the login."""

        class Closer(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(
            Factory.forProtocol(Closer)
        )
        self.addCleanup(port.stopListening)
        link = self.link(f"redis://:{SECRET}@127.0.0.1:{port.getHost().port}")
        await self.until_told()
        self.assertFalse(link.is_up)
        self.assertNotIn(SECRET, link.last_error)

    async def test_can_be_closed_at_any_moment(self) -> None:
        """Before it is open, while it connects or logs in, and twice."""
        redis = await self.server(password=SECRET)
        RedisClient(settings(redis.url), reactor).close()
        link = self.link(redis.url)
        link.close()
        link.close()
        redis.pause()
        link = self.link(redis.url)
        left = RedisClient(settings(redis.url), reactor)
        left.open()
        await deferLater(reactor, 0.05)  # the last one is in the middle of its login by then
        left.close()
        link.close()
        redis.resume()
        self.assertEqual(self.reasons, [])

    async def test_a_closed_link_does_nothing(self) -> None:
        """What was asked fails, and no other connection is made."""
        redis = await self.server()
        link = self.link(redis.url)
        await self.until_up(link)
        waiting = link.call("BLPOP", "nothing", 0)
        link.close()
        await self.failUnlessFailure(waiting, RedisUnavailableError)
        self.assertFalse(link.is_up)
        self.assertEqual(self.reasons, [])


class LosingTests(LinkCase):
    """A link that is lost is told, and made again."""

    async def test_a_restart_is_followed(self) -> None:
        """Whatever was under way fails; the next commands go to the new one."""
        redis = await self.server()
        link = self.link(redis.url)
        await self.until_up(link)
        waiting = link.call("BLPOP", "nothing", 0, timeout=PATIENCE)
        lost = self.failUnlessFailure(waiting, RedisUnavailableError)
        await redis.restart(keep_data=False)
        self.assertEqual(str(await lost), "the connection was lost")
        await self.until_up(link)
        self.assertEqual(self.reasons[0], "the connection was lost")
        self.assertEqual(await link.call("PING"), b"PONG")

    async def test_silence_is_not_borne_for_long(self) -> None:
        """A command fails in time, and a Redis that goes on is used again."""
        redis = await self.server()
        link = self.link(redis.url)
        await self.until_up(link)
        redis.pause()
        self.addCleanup(lambda: redis.resume())
        began = reactor.seconds()
        await self.failUnlessFailure(link.call("PING", timeout=0.3), RedisUnavailableError)
        self.assertLess(reactor.seconds() - began, REPLY_TIMEOUT)
        self.assertEqual((link.is_up, link.last_error), (False, "it does not answer within 0.3 s"))
        redis.resume()
        await self.until_up(link)
        self.assertEqual(await link.call("PING"), b"PONG")
        self.assertLess(reactor.seconds() - began, RETRY + REPLY_TIMEOUT)

    async def test_a_question_that_is_withdrawn_leaves_the_link(self) -> None:
        """The answers of others are not taken for its."""
        redis = await self.server()
        link = self.link(redis.url)
        await self.until_up(link)
        withdrawn = link.call("ECHO", "one")
        other = link.call("ECHO", "two")
        withdrawn.addErrback(lambda _: None)
        withdrawn.cancel()
        self.assertEqual(await other, b"two")
        self.assertTrue(link.is_up)

    async def test_a_refusal_makes_another_connection(self) -> None:
        """The next one may lead to a Redis that serves."""
        redis = await self.server()
        link = self.link(redis.url)
        await self.until_up(link)
        failed = await self.failUnlessFailure(link.call("NONSENSE"), RedisUnavailableError)
        self.assertRegex(str(failed), "^it says ERR unknown command")
        self.assertFalse(link.is_up)
        await self.until_up(link)


class TrialTests(LinkCase):
    """`tradeproxy check` tries whether Redis can hold the log."""

    async def test_a_redis_that_can_is_no_trouble(self) -> None:
        """It is new enough, and lets us in."""
        redis = await self.server(password=SECRET)
        self.assertIsNone(await probe_redis(settings(redis.url), reactor))

    async def test_says_why_it_cannot(self) -> None:
        """It is away, or it does not let us in."""
        redis = await self.server(password=SECRET)
        for url, words in (
            ("redis://127.0.0.1:1", "^cannot connect: "),
            (redis.url.replace(SECRET, "wrong"), "^could not auth: WRONGPASS"),
            (f"redis://127.0.0.1:{redis.port}", "^it says NOAUTH"),
        ):
            trouble = await probe_redis(settings(url), reactor)
            self.assertRegex(trouble or "", words)
            self.assertNotIn(SECRET, trouble or "")
