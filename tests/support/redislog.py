"""The shared log without waiting: a real redis-server, asked at once, whose leases run in fake time."""

from __future__ import annotations

import atexit
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

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

T = TypeVar("T")

Command: TypeAlias = tuple[str | bytes | int, ...]

SOMEWHERE = RedisSettings("127.0.0.1", 1, None, False, None, None, 0)
"""Where the double's Redis seems to be; nothing connects there."""


@cache
def _server() -> socket.socket:
    """Return a connection to a server of this process' own, which is killed at its end."""
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


class NearRedis:
    """The server as the nodes of one test reach it. It begins empty, or as another one has left it."""

    def __init__(self, clock: Clock, *, is_empty: bool = True) -> None:
        need_redis()
        self.clock = clock
        self.links: list[NearLink] = []
        """All that lead here."""
        self.on_command: Callable[[Command], None] = lambda _: None
        """Called with each command of a node, before it is done: a test lets time pass."""
        self._socket = _server()
        self._reader = hiredis.Reader(replyError=ResponseError)
        self._ends: dict[str, float] = {}  # of the leases, in fake time
        self._waiting: list[_Wait] = []
        self._is_looking = False
        if is_empty:
            self.forget()

    def ask(self, *command: Any) -> Any:
        """Return what Redis answers; raises ResponseError."""
        self._socket.sendall(hiredis.pack_command(command))
        while (answer := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 20))
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def forget(self) -> None:
        """Be empty, as after a restart without data: its scripts are gone as well."""
        self.ask("FLUSHALL")
        self.ask("SCRIPT", "FLUSH")
        self._ends.clear()

    def saved(self) -> dict[bytes, bytes]:
        """Return all that is there, for `roll_back`."""
        return {key: self.ask("DUMP", key) for key in self.ask("KEYS", "*")}

    def roll_back(self, saved: dict[bytes, bytes]) -> None:
        """Be as at another time, as after a restart that lost the last second; leases end when they would."""
        ends = dict(self._ends)
        self.forget()
        self._ends.update(ends)
        for key, value in saved.items():
            self.ask("RESTORE", key, 0, value)

    def link(self) -> NearLink:
        """Return a link to it, which is not open."""
        self.links.append(NearLink(self))
        return self.links[-1]

    # What the links' connections call.

    def serve(self, command: Command) -> Any:
        """Do what a node asks for; its leases have what is left of them by the test's clock."""
        self.on_command(command)
        if not str(command[0]).startswith("EVAL"):
            return self.ask(*command)
        now, lease = self.clock.seconds(), str(command[3])
        left = self._ends.get(lease, now) - now
        if lease in self._ends:
            self.ask("PEXPIRE", lease, max(round(left * 1000), 0))
        try:
            return self.ask(*command)
        finally:
            rest = self.ask("PTTL", lease) / 1000
            if rest > left + 0.05:  # it is another one, or renewed
                self._ends[lease] = now + round(rest, 1)
            elif rest < 0:
                self._ends.pop(lease, None)
            self.ask("PERSIST", lease)

    def wait(self, wait: _Wait) -> None:
        """Let a blocking read wait until it finds something."""
        self._waiting.append(wait)

    def look(self) -> None:
        """Let the reads that wait look again."""
        if self._is_looking:
            return  # this is called by one that has found something
        self._is_looking = True
        try:
            while found := next((wait for wait in self._waiting if wait.finds()), None):
                self._waiting.remove(found)
                found.end()
            self._waiting = [wait for wait in self._waiting if not wait.answer.called]
        finally:
            self._is_looking = False


class _Wait:
    """A blocking read that has found nothing yet."""

    def __init__(self, connection: _Connection, command: Command, seconds: float) -> None:
        self.answer: Deferred[Any] = Deferred()
        self._connection = connection
        self._command = command
        self._found: Any = None
        timer = connection.redis.clock.callLater(seconds, self.answer.callback, None)
        self.answer.addBoth(_stop, timer)

    def finds(self) -> bool:
        """Whether there is something now."""
        if self.answer.called or self._connection.holds:
            return False
        self._found = self._connection.redis.serve(self._command)
        return self._found is not None

    def end(self) -> None:
        """Give what was found."""
        self._connection.give(self.answer, self._found)


def _stop(answer: Any, timer: IDelayedCall) -> Any:
    if timer.active():
        timer.cancel()
    return answer


class _Connection:
    """As much of txredisapi's protocol as a Link takes."""

    def __init__(self, redis: NearRedis) -> None:
        self.redis = redis
        self.transport = self
        self.holds = False
        self.is_silent = False
        self.answers = -1
        """How many answers come yet before one is lost; none ever is, if that is negative."""
        self._pending: list[Deferred[Any]] = []

    def execute_command(self, *command: str | bytes | int) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        if not self.is_silent:
            answer = self._answer(command)
        self._pending = [pending for pending in self._pending if not pending.called]
        if not answer.called:
            self._pending.append(answer)
        return answer

    def _answer(self, command: Command) -> Deferred[Any]:
        if "BLOCK" in command:
            at = command.index("BLOCK")
            wait = _Wait(self, (*command[:at], *command[at + 2 :]), int(command[at + 1]) / 1000)
            self.redis.wait(wait)
            self.redis.look()
            return wait.answer
        answer: Deferred[Any] = Deferred()
        try:
            result = self.redis.serve(command)
        except ResponseError as error:
            answer.errback(error)
            return answer
        self.redis.look()  # another connection may be told first
        self.give(answer, result)
        return answer

    def give(self, answer: Deferred[Any], result: Any) -> None:
        """Answer, or lose the connection."""
        self.answers -= 1
        if self.answers == -1:
            answer.errback(LostError("Lost connection"))
        else:
            answer.callback(result)

    def abortConnection(self) -> None:
        pending, self._pending = self._pending, []
        for answer in pending:
            if not answer.called:
                answer.errback(LostError("Lost connection"))


class NearLink(RedisClient):
    """A link whose answers are there at once; it is up when it is open, until the test has it otherwise."""

    def __init__(self, redis: NearRedis) -> None:
        super().__init__(SOMEWHERE, redis.clock)
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

    # What a test does to it.

    def cut(self, reason: str = "the connection was lost") -> None:
        """Lose the connection, and find no other until `mend`."""
        self._is_cut = True
        if self._protocol is not None:
            self._drop(self._protocol, reason)

    def mend(self) -> None:
        """Connect again, to a Redis that answers."""
        self._is_cut = self._is_silent = False
        self._connect()

    def _connect(self) -> None:
        self._stop_retrying()
        if self._is_open and self._protocol is None:
            self._protocol = _Connection(self._redis)
            self._protocol.is_silent = self._is_silent
            self.on_up()

    def fall_silent(self) -> None:
        """Let nothing be answered until `mend`, not on later connections either."""
        self._is_silent = self._protocol.is_silent = True

    def lose_answer(self, number: int = 1) -> None:
        """Let the next command, or a later one, be done, and the connection be lost before its answer."""
        self._protocol.answers = number - 1

    def hold(self) -> None:
        """Let reads that wait find nothing: this node is a slow one."""
        self._protocol.holds = True

    def go_on(self) -> None:
        """Let them find what there is."""
        self._protocol.holds = False
        self._redis.look()


def done(coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
    """Return what a coroutine returns that has nothing to wait for; raises what it raises."""
    results: list[T | Failure] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
    return result
