"""A real redis-server that tests query synchronously, with leases that expire in fake time."""

from __future__ import annotations

import atexit
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import hiredis
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from txredisapi import ConnectionError as LostError
from txredisapi import ResponseError

from tests.support.redis import PROGRAM, need_redis
from tradeproxy.cluster.redis_client import RETRY, RedisClient
from tradeproxy.config.storage import RedisSettings
from tradeproxy.runtime.reactor import Reactor

T = TypeVar("T")

Command: TypeAlias = tuple[str | bytes | int, ...]

UNUSED_SETTINGS = RedisSettings("127.0.0.1", 1, None, False, None, None, 0)
"""Settings for a SyncRedisClient, which connects to no address."""


@cache
def _server() -> socket.socket:
    """Return a connection to this process' own server, which is killed at exit."""
    directory = tempfile.mkdtemp(prefix="redis")
    path = str(Path(directory, "s"))
    options = [
        "--port",
        "0",
        "--unixsocket",
        path,
        "--dir",
        directory,
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    process = subprocess.Popen([PROGRAM, *options], stdout=subprocess.PIPE)
    atexit.register(shutil.rmtree, directory)
    atexit.register(process.wait)
    atexit.register(process.kill)
    assert process.stdout is not None
    for line in process.stdout:
        if b"ready to accept connections" in line.lower():
            break
    atexit.register(process.stdout.close)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    atexit.register(connection.close)
    return connection


class SyncRedis:
    """The server for the nodes of one test; empty at first, unless `is_empty` is False.

    Redis expires keys in real time. So each lease's remaining time is kept here, in fake time, and
    set in Redis only for the duration of a script.
    """

    def __init__(self, clock: Clock, *, is_empty: bool = True) -> None:
        need_redis()
        self.clock = clock
        self.clients: list[SyncRedisClient] = []
        """Every client of this server."""
        self.on_command: Callable[[Command], None] = lambda _: None
        """Called with each command of a node, before it is executed."""
        self._socket = _server()
        self._reader = hiredis.Reader(replyError=ResponseError)
        self._expiries: dict[str, float] = {}  # of the leases, in fake time
        self._blocked: list[_BlockingRead] = []
        self._is_retrying = False
        if is_empty:
            self.flush()

    def execute(self, *command: Any) -> Any:
        """Return Redis' reply; raises ResponseError."""
        self._socket.sendall(hiredis.pack_command(command))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 20))
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def flush(self) -> None:
        """Delete all data and scripts, as a restart without data does."""
        self.execute("FLUSHALL")
        self.execute("SCRIPT", "FLUSH")
        self._expiries.clear()

    def dump(self) -> dict[bytes, bytes]:
        """Return all data, for `roll_back`."""
        return {key: self.execute("DUMP", key) for key in self.execute("KEYS", "*")}

    def roll_back(self, dump: dict[bytes, bytes]) -> None:
        """Restore older data, as a restart that lost the last second does; expiries stay."""
        expiries = dict(self._expiries)
        self.flush()
        self._expiries.update(expiries)
        for key, value in dump.items():
            self.execute("RESTORE", key, 0, value)

    def make_client(self) -> SyncRedisClient:
        """Return a client of this server; it is not open."""
        self.clients.append(SyncRedisClient(self))
        return self.clients[-1]

    # The clients' connections call these.

    def serve(self, command: Command) -> Any:
        """Execute a node's command, with the lease's remaining time by the fake clock."""
        self.on_command(command)
        if not str(command[0]).startswith("EVAL"):
            return self.execute(*command)
        now, lease = self.clock.seconds(), str(command[3])
        remaining = self._expiries.get(lease, now) - now
        if lease in self._expiries:
            self.execute("PEXPIRE", lease, max(round(remaining * 1000), 0))
        try:
            return self.execute(*command)
        finally:
            after = self.execute("PTTL", lease) / 1000
            if after < 0:
                self._expiries.pop(lease, None)
            elif abs(after - remaining) > 0.05:  # the script acquired, renewed or shortened it
                self._expiries[lease] = now + round(after, 1)
            self.execute("PERSIST", lease)

    def add_blocked(self, read: _BlockingRead) -> None:
        """Add a blocking read, which waits until it finds entries."""
        self._blocked.append(read)

    def retry_reads(self) -> None:
        """Try every blocked read again."""
        if self._is_retrying:
            return  # called from a read that found entries
        self._is_retrying = True
        try:
            while found := next((read for read in self._blocked if read.try_again()), None):
                self._blocked.remove(found)
                found.reply_now()
            self._blocked = [read for read in self._blocked if not read.reply.called]
        finally:
            self._is_retrying = False


class _BlockingRead:
    """A blocking read that has found no entries yet."""

    def __init__(self, connection: _SyncConnection, command: Command, seconds: float) -> None:
        self.reply: Deferred[Any] = Deferred()
        self._connection = connection
        self._command = command
        self._found: Any = None
        timer = connection.redis.clock.callLater(seconds, self.reply.callback, None)
        self.reply.addBoth(_stop_timer, timer)

    def try_again(self) -> bool:
        """Read again; return whether there are entries now."""
        if self.reply.called or self._connection.is_paused:
            return False
        self._found = self._connection.redis.serve(self._command)
        return self._found is not None

    def reply_now(self) -> None:
        """Deliver the events that were found."""
        self._connection.deliver(self.reply, self._found)


def _stop_timer(reply: Any, timer: IDelayedCall) -> Any:
    if timer.active():
        timer.cancel()
    return reply


class _SyncConnection:
    """The part of txredisapi's protocol that RedisClient uses."""

    def __init__(self, redis: SyncRedis) -> None:
        self.redis = redis
        self.transport = self
        self.is_paused = False
        self.is_silent = False
        self.refusal = ""
        self.replies_left = -1
        """Replies to deliver before one is lost with the connection; negative: lose none."""
        self._pending: list[Deferred[Any]] = []

    def execute_command(self, *command: str | bytes | int) -> Deferred[Any]:
        reply: Deferred[Any] = Deferred()
        if not self.is_silent:
            reply = self._execute(command)
        self._pending = [pending for pending in self._pending if not pending.called]
        if not reply.called:
            self._pending.append(reply)
        return reply

    def _execute(self, command: Command) -> Deferred[Any]:
        if "BLOCK" in command:
            at = command.index("BLOCK")
            words, seconds = (*command[:at], *command[at + 2 :]), int(command[at + 1]) / 1000
            read = _BlockingRead(self, words, seconds)
            self.redis.add_blocked(read)
            self.redis.retry_reads()
            return read.reply
        reply: Deferred[Any] = Deferred()
        try:
            result = self.redis.serve(command)
        except ResponseError as error:
            reply.errback(error)
            return reply
        self.redis.retry_reads()  # another connection may get its entries before this reply
        self.deliver(reply, result)
        return reply

    def deliver(self, reply: Deferred[Any], result: Any) -> None:
        """Fire a reply, or lose the connection."""
        self.replies_left -= 1
        if self.replies_left == -1:
            reply.errback(LostError("Lost connection"))
        else:
            reply.callback(result)

    def abortConnection(self) -> None:
        pending, self._pending = self._pending, []
        for reply in pending:
            if not reply.called:
                reply.errback(LostError("Lost connection"))


class SyncRedisClient(RedisClient):
    """A client whose replies arrive synchronously; once open it is up, unless the test cuts it."""

    def __init__(self, redis: SyncRedis) -> None:
        super().__init__(UNUSED_SETTINGS, cast(Reactor, redis.clock))
        self._redis = redis
        self._is_cut = False
        self._is_silent = False
        self._retrying: IDelayedCall | None = None

    def open(self) -> None:
        """Connect."""
        self._is_open = True
        if not self._is_cut:
            self._connect()

    def close(self) -> None:
        """Disconnect."""
        super().close()
        self._stop_retrying()

    def _drop(self, protocol: Any, reason: str) -> None:
        super()._drop(protocol, reason)
        self._stop_retrying()
        if self._is_open and not self._is_cut:
            self._retrying = self._reactor.callLater(RETRY, self._connect)

    def _stop_retrying(self) -> None:
        if self._retrying is not None and self._retrying.active():
            self._retrying.cancel()

    @property
    def connection(self) -> Any:
        """The connection, of which a test may replace methods; None while there is none."""
        return self._protocol

    # Faults that a test injects.

    def cut(self, reason: str = "the connection was lost") -> None:
        """Lose the connection, and do not reconnect before `restore`."""
        self._is_cut = True
        if self._protocol is not None:
            self._drop(self._protocol, reason)

    def restore(self) -> None:
        """Reconnect, to a Redis that replies."""
        self._is_cut = self._is_silent = False
        self._connect()

    def _connect(self) -> None:
        self._stop_retrying()
        if self._is_open and self._protocol is None:
            self._protocol = _SyncConnection(self._redis)
            self._protocol.is_silent = self._is_silent
            self.on_up()

    def stop_replying(self) -> None:
        """Execute and answer no command before `restore`, on later connections either."""
        self._is_silent = self._protocol.is_silent = True

    def lose_reply(self, number: int = 1) -> None:
        """Lose the connection after the `number`-th next command is executed, before its reply."""
        self._protocol.replies_left = number - 1

    def pause_reads(self) -> None:
        """Keep blocking reads from finding entries: this node lags behind."""
        self._protocol.is_paused = True

    def resume_reads(self) -> None:
        """End `pause_reads`."""
        self._protocol.is_paused = False
        self._redis.retry_reads()


class ReplyDelay:
    """Delays Redis' replies to one client's commands; the commands are executed at once."""

    def __init__(self, client: SyncRedisClient) -> None:
        self._connection = client.connection
        self._execute = self._connection.execute_command
        self._held_back: list[tuple[Deferred[Any], Any]] = []
        self._connection.execute_command = self._delay

    def _delay(self, *command: str | bytes | int) -> Deferred[Any]:
        reply: Deferred[Any] = Deferred()
        self._execute(*command).addBoth(lambda result: self._held_back.append((reply, result)))
        return reply

    def deliver(self) -> None:
        """Deliver every reply so far."""
        replies, self._held_back = self._held_back, []
        for reply, result in replies:
            if not reply.called:
                reply.callback(result)

    def end(self) -> None:
        """Deliver the rest, and delay no more."""
        self._connection.execute_command = self._execute
        self.deliver()


def done(coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
    """Return the result of a coroutine that does not wait; raises what it raises."""
    results: list[T | Failure] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
    return result
