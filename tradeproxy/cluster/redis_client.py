"""One connection to Redis: it reconnects, and every command succeeds or fails in bounded time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.defer import TimeoutError as NoAnswerError
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from txredisapi import ResponseError

from tradeproxy.cluster.redis_replies import INVALID, TOO_LARGE, BoundedRedisProtocol
from tradeproxy.config.storage import RedisSettings
from tradeproxy.runtime.connect_errors import describe_connect_error
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.runtime.server_identity import ServerIdentity
from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.quote import quote_text

CONNECT_TIMEOUT = 2.0
"""Seconds for TCP and TLS, and again for the login."""

REPLY_TIMEOUT = 1.5
"""Seconds for a reply; a healthy Redis needs less than a thousandth of that."""

MIN_VERSION = [6, 2]
"""The first Redis whose XTRIM accepts MINID (https://redis.io/commands/xtrim)."""

RETRY = 0.5
"""Seconds between two attempts to connect."""


class RedisUnavailableError(Exception):
    """Redis did not execute a command; the text is the reason and contains no secret."""


class ReplyTooLargeError(RedisUnavailableError):
    """The reply is over a limit of `redis_replies`. The connection was closed."""


class NoScriptError(Exception):
    """Redis does not have the script of an EVALSHA: it was restarted, or its scripts flushed."""


class RedisClient:
    """Keeps one connection to Redis.

    An error reply (read-only replica, loading its data, out of memory) closes the connection, as a
    timeout does: behind a load balancer the next connection may reach a Redis that works.
    """

    def __init__(self, settings: RedisSettings, reactor: Reactor) -> None:
        self.on_up: Callable[[], None] = lambda: None
        """Called when commands can be sent. It must not close this client."""
        self.on_down: Callable[[str], None] = lambda _: None
        """Called with the reason when the connection is lost, and after each failed attempt. It
        must not close this client."""
        self.last_error = "it has not been reached yet"
        """Why there is no connection."""
        self._settings = settings
        self._reactor = reactor
        self._protocol: Any = None
        self._running: Deferred[None] | None = None
        self._is_open = False

    @property
    def is_up(self) -> bool:
        """Whether commands can be sent."""
        return self._protocol is not None

    def open(self) -> None:
        """Start to connect."""
        self._is_open = True
        self._running = Deferred.fromCoroutine(self._keep_connected())

    def close(self) -> None:
        """Abort the connection and do not reconnect; does nothing if already closed."""
        self._is_open = False
        running, self._running = self._running, None
        protocol, self._protocol = self._protocol, None
        if running is not None:
            running.addErrback(lambda failure: failure.trap(CancelledError))
            running.cancel()
        if protocol is not None:
            protocol.transport.abortConnection()

    def call(self, *command: str | bytes | int, timeout: float = REPLY_TIMEOUT) -> Deferred[Any]:
        """Send a command; fires with Redis' reply, in bytes.

        Fails with RedisUnavailableError (also after `timeout` seconds; ReplyTooLargeError is one
        of them) or NoScriptError.
        """
        protocol = self._protocol
        if protocol is None:
            return fail(RedisUnavailableError(self.last_error))
        reply: Deferred[Any] = protocol.execute_command(*command)
        reply.addTimeout(timeout, self._reactor)
        return reply.addErrback(self._translate_error, protocol, timeout)

    def refuse_reply(self) -> RedisUnavailableError:
        """Abort the connection, as a reply has another shape than its command's; return the error.

        Later replies may belong to other commands.
        """
        if self._protocol is not None:
            self._drop(self._protocol, INVALID)
        return RedisUnavailableError(INVALID)

    def _translate_error(self, failure: Failure, protocol: Any, timeout: float) -> None:
        error = failure.value
        if isinstance(error, CancelledError):  # by the caller: the connection is in order
            raise error
        if isinstance(error, ResponseError):
            if str(error).startswith("NOSCRIPT"):
                raise NoScriptError
            reason = f"it says {quote_redis(str(error), self._settings)}"
        elif isinstance(error, NoAnswerError):
            reason = f"it does not answer within {timeout:g} s"
        else:
            reason = protocol.refusal or "the connection was lost"
        self._drop(protocol, reason)
        raise (ReplyTooLargeError if reason == TOO_LARGE else RedisUnavailableError)(reason)

    def _drop(self, protocol: Any, reason: str) -> None:
        if protocol is self._protocol:  # and not an older connection, whose replies fail late
            self._protocol = None
            protocol.transport.abortConnection()
            self._set_error(reason)

    def _set_error(self, reason: str) -> None:
        self.last_error = reason
        self.on_down(reason)

    async def _keep_connected(self) -> None:
        while True:
            factory = _RedisFactory(self._settings)
            try:
                protocol = await self._endpoint().connect(factory)
            except CancelledError:
                raise
            except Exception as error:  # of many kinds: unknown host, refused, a bad certificate
                if not self._is_open:
                    return  # some endpoints fail with another error when they are cancelled
                self._set_error(f"cannot connect: {describe_connect_error(error)}")
            else:
                await self._use(protocol, factory)
            await deferLater(self._reactor, RETRY)

    async def _use(self, protocol: Any, factory: _RedisFactory) -> None:
        gone: Deferred[None] = protocol.whenDisconnected()
        login: Deferred[None] = Deferred()
        # txredisapi sends AUTH and SELECT by itself; if they fail, it only disconnects.
        for either in (protocol.whenConnected(), protocol.whenDisconnected()):
            either.addCallback(lambda _: None if login.called else login.callback(None))
        try:
            await login.addTimeout(CONNECT_TIMEOUT, self._reactor)
        except NoAnswerError:
            factory.last_error = f"it does not answer within {CONNECT_TIMEOUT:g} s at the login"
            protocol.transport.abortConnection()
            await gone
        except CancelledError:
            protocol.transport.abortConnection()
            raise
        if not protocol.connected:
            reason = factory.last_error or protocol.refusal
            self._set_error(reason or "the connection was lost at the login")
            return
        self._protocol = protocol
        self.on_up()
        await gone
        self._drop(protocol, protocol.refusal or "the connection was lost")

    def _endpoint(self) -> IStreamClientEndpoint:
        settings = self._settings
        if settings.path is not None:
            return UNIXClientEndpoint(self._reactor, settings.path, timeout=CONNECT_TIMEOUT)
        host, port = settings.host, settings.port
        endpoint = HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)
        return wrapClientTLS(ServerIdentity(host), endpoint) if settings.tls else endpoint


async def probe_redis(settings: RedisSettings, reactor: Reactor) -> str | None:
    """Connect once; return why Redis is not suitable for the log, or None if it is."""
    redis = RedisClient(settings, reactor)
    tried: Deferred[None] = Deferred()
    redis.on_up = lambda: tried.callback(None)
    redis.on_down = lambda _: None if tried.called else tried.callback(None)
    redis.open()
    await tried
    await deferLater(reactor, 0)  # on_up and on_down must not close the client
    try:
        reply = await redis.call("INFO")
    except RedisUnavailableError as unavailable:
        return str(unavailable)
    finally:
        redis.close()
    info = reply.decode(errors="replace") if isinstance(reply, bytes) else ""
    values = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    version, policy = values.get("redis_version", ""), values.get("maxmemory_policy", "noeviction")
    if [int(part) for part in version.split(".")[:2] if part.isdigit()] < MIN_VERSION:
        version = quote_redis(version, settings)
        return f"its version is {version}; the log needs {'.'.join(map(str, MIN_VERSION))} or newer"
    if policy != "noeviction" and values.get("maxmemory") != "0":
        policy = quote_redis(policy, settings)
        return (
            f"its maxmemory-policy is {policy}, which can evict the log; the log needs noeviction"
        )
    return None


class _RedisFactory(Factory):
    """Builds the protocol of one connection; has what txredisapi expects of its factory."""

    noisy = False
    isLazy = False

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self.last_error = ""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return a protocol that logs in by itself and returns replies as bytes."""
        settings = self._settings
        protocol = BoundedRedisProtocol(
            charset=None,
            convertNumbers=False,
            username=settings.username,
            password=None if settings.password is None else settings.password.reveal(),
            dbid=settings.db or None,
        )
        protocol.factory = self
        return protocol

    def stopTrying(self) -> None:
        """Do nothing: txredisapi calls this after a failed login, and RedisClient retries."""

    def connectionError(self, why: str) -> None:
        """Record why the login failed, in Redis' words, without secrets."""
        self.last_error = quote_redis(why.removeprefix("Redis error: "), self._settings)


def quote_redis(text: str, settings: RedisSettings) -> str:
    """Return a text of Redis, or of a server in its place, without secrets.

    An error may repeat the arguments of the rejected command: of AUTH, or an event.
    """
    given = (settings.username, settings.password)
    secrets = [each if isinstance(each, Secret) else Secret(each) for each in given if each]
    return quote_text(text.partition(", with args")[0], secrets)
