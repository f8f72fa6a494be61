"""The proxy under attack, and what an attack does to it.

Account `paper` belongs to the attacker: its Alpaca answers as the attack says. Account `live` has a
sane Alpaca that emits an event every 50 ms, and one client, the bystander. What delays, grows or
loses something there is the finding.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, serverFromString
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.web.server import Request, Site

from tests.support.processes import Command, free_port, run
from tradeproxy.simulator.service import Simulator
from tradeproxy.simulator.stream import StreamFactory
from tradeproxy.simulator.web import Api, ApiSite

reactor: Any = chosen

KEYS = ("PKHUSH1HUSH2HUSH3", "hush-secret-of-paper", "PKHUSH4HUSH5HUSH6", "hush-secret-of-live")
TOKEN = "hush-token-of-every-client"
SECRETS = (*KEYS, TOKEN)

INTERVAL = 0.05
"""Seconds between two events of the account `live`."""

MAX_FREEZE = 1.0
"""Seconds. An attack that delays an event or a health check for longer is high."""

MAX_GROWTH = 100
"""MB. An attack that makes the process grow by more is high."""

SETTLE = 0.3
"""Seconds after an attack, in which its effects show."""

PATIENCE = 30.0
"""Seconds in which the last event must arrive."""

Hook = Callable[[Request], "bytes | int"]
"""Answers a request to the hostile Alpaca, as Resource.render does."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    `hooks` answer the paths of the hostile Alpaca; other paths are answered as Alpaca does.
    `settings` are added to the environment of the proxy. `perform` attacks for a few seconds.
    """

    name: str
    perform: Callable[[Target], Awaitable[None]]
    hooks: Mapping[bytes, Hook] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack did."""

    freeze: float
    """Seconds: the longest delay of an event of the bystander, or of a health check."""
    growth: int
    """MB by which the process grew at most."""
    faults: tuple[str, ...]
    """What else is high: a secret in the open, events lost, a process that ended."""

    @property
    def verdict(self) -> str:
        """`ok`, or `high` with the reasons."""
        reasons = list(self.faults)
        if self.freeze > MAX_FREEZE:
            reasons.append(f"others waited over {MAX_FREEZE:.0f} s")
        if self.growth > MAX_GROWTH:
            reasons.append(f"grew by over {MAX_GROWTH} MB")
        return f"high: {', '.join(reasons)}" if reasons else "ok"


class HostileApi(Api):
    """An Alpaca with other answers for some paths."""

    def __init__(self, simulator: Simulator, hooks: Mapping[bytes, Hook]) -> None:
        super().__init__(simulator, StreamFactory(simulator))
        self._hooks = hooks

    def render(self, request: Request) -> bytes | int:
        hook = self._hooks.get(request.path)
        return super().render(request) if hook is None else hook(request)


class QuietSite(Site):
    """A site that logs no requests."""

    noisy = False

    def log(self, request: Any) -> None:
        """Log nothing."""


class Bystander(WebSocketClientProtocol):
    """A client of the account `live`. It counts its events and their delays."""

    def __init__(self) -> None:
        super().__init__()
        self.ready: Deferred[None] = Deferred()
        self.numbers: list[int] = []
        self.declared = False
        self.delay = 0.0
        self.sent_at: dict[int, float] = {}

    @property
    def is_connected(self) -> bool:
        """Whether it gets events."""
        return self.ready.called

    def onOpen(self) -> None:
        self.sendMessage(json.dumps({"action": "auth", "key": "k", "secret": TOKEN}).encode())

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        match message:
            case {"stream": "trade_updates", "data": {"number": int(number)}}:
                self.numbers.append(number)
                self.delay = max(self.delay, monotonic() - self.sent_at[number])
            case {"stream": "proxy_status", "data": {"event": "gap"}}:
                self.declared = True
            case {"stream": "proxy_status", "data": {"event": "hello"}}:
                self.ready.callback(None)


class Target:
    """A proxy between two simulated Alpacas, for several attacks. `stop` ends everything."""

    def __init__(
        self, directory: str, hooks: Mapping[bytes, Hook], settings: Mapping[str, str]
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.paper = Simulator(reactor, Random(0))
        self._live = Simulator(reactor, Random(1))
        self._hooks = hooks
        self._settings = settings
        self._ports: list[Any] = []
        self._emitted = 0
        self._health_delay = 0.0
        self._emitting = LoopingCall(self._emit)
        self._is_over = False
        self._bystander = Bystander()

    @property
    def pid(self) -> int:
        """The process of the proxy."""
        return self._proxy.pid

    async def start(self) -> None:
        """Start everything, and wait until events arrive."""
        hostile = QuietSite(HostileApi(self.paper, self._hooks), reactor=reactor)
        paper_port, live_port = await self._listen(hostile), await self._listen(ApiSite(self._live))
        settings = {
            "ALPACA_API_KEY": KEYS[0],
            "ALPACA_SECRET_KEY": KEYS[1],
            "ALPACA_URL": f"http://127.0.0.1:{paper_port}",
            "ALPACA_LIVE_API_KEY": KEYS[2],
            "ALPACA_LIVE_SECRET_KEY": KEYS[3],
            "ALPACA_LIVE_URL": f"http://127.0.0.1:{live_port}",
            "PROXY_HOST": "127.0.0.1",
            "PROXY_PORT": str(self.port),
            "PROXY_TOKENS": TOKEN,
            **self._settings,
        }
        self._proxy: Command = run(
            "twistd", "-n", "tradeproxy", directory=self.directory, **settings
        )
        await self._proxy.says("listening on")
        if "PROXY_REDIS_URL" not in settings:  # without its log, it has no events
            await self._live.when_listening()
            await self._watch()

    async def measure(self, attack: Attack) -> Outcome:
        """Attack, and return what it did."""
        _reset_peak(self.pid)
        before = _read_memory(self.pid)
        self._is_over, self._health_delay, self._bystander.delay = False, 0.0, 0.0
        if self._bystander.is_connected:
            self._emitting.start(INTERVAL)
        checking = deferToThread(self._check_health)
        with suppress(OSError):  # a connection that the proxy cut
            await attack.perform(self)
        await deferLater(reactor, SETTLE)
        if self._emitting.running:
            self._emitting.stop()
        faults = await self._wait_for_events()
        self._is_over = True
        await checking
        if self._proxy.status is not None:
            return Outcome(0, 0, (f"the process ended with {self._proxy.status}",))
        if leaks := self._find_secrets():
            faults.append(f"a secret is in {', '.join(leaks)}")
        freeze = max(self._bystander.delay, self._health_delay)
        return Outcome(freeze, max(0, _read_memory(self.pid) - before), tuple(faults))

    async def stop(self) -> None:
        """End the proxy and both Alpacas."""
        self._is_over = True
        if self._emitting.running:
            self._emitting.stop()
        self._proxy.end()
        await self._proxy.ended
        for simulator in (self.paper, self._live):
            await simulator.stop()
        for port in self._ports:
            await port.stopListening()

    async def _listen(self, site: Site) -> int:
        port: Any = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
        self._ports.append(port)
        number: int = port.getHost().port
        return number

    async def _watch(self) -> None:
        """Connect the bystander."""
        url = f"ws://127.0.0.1:{self.port}/trade-updates-live?proxy_status=1"
        factory: Any = WebSocketClientFactory(url, reactor=reactor)
        factory.protocol = lambda: self._bystander
        factory.noisy = False
        await HostnameEndpoint(reactor, "127.0.0.1", self.port).connect(factory)
        await self._bystander.ready

    def _emit(self) -> None:
        self._emitted += 1
        self._bystander.sent_at[self._emitted] = monotonic()
        self._live.emit_stamped({"event": "fill", "number": self._emitted})

    def _check_health(self) -> None:
        """Ask for /healthz until the end. Blocks: it runs in a thread."""
        while not self._is_over:
            began = monotonic()
            with suppress(OSError):
                request_health(self.port)
            self._health_delay = max(self._health_delay, monotonic() - began)

    async def _wait_for_events(self) -> list[str]:
        """Return whether events are missing that no gap declares."""
        numbers = self._bystander.numbers
        deadline = monotonic() + PATIENCE
        while len(numbers) < self._emitted and monotonic() < deadline and not self._has_ended():
            await deferLater(reactor, INTERVAL)
        is_complete = numbers == list(range(1, self._emitted + 1))
        if is_complete or self._bystander.declared:
            return []
        return [f"{self._emitted - len(set(numbers))} of {self._emitted} events lost"]

    def _has_ended(self) -> bool:
        return self._proxy.status is not None

    def _find_secrets(self) -> list[str]:
        """Return where a key or token stands in plain text: the log, files or public pages."""
        found = ["the log"] if _has_secret(self._proxy.output.encode()) else []
        paths = [path for path in Path(self.directory).rglob("*") if path.is_file()]
        return found + [path.name for path in paths if _has_secret(path.read_bytes())]


def request_health(port: int) -> bytes:
    """Return the answer of /healthz. Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


def _has_secret(content: bytes) -> bool:
    return any(secret.encode() in content for secret in SECRETS)


def _reset_peak(pid: int) -> None:
    """Make the highest memory so far that of now (man 5 proc, clear_refs)."""
    with suppress(OSError):
        Path("/proc", str(pid), "clear_refs").write_text("5")


def _read_memory(pid: int) -> int:
    """Return the highest resident memory so far in MB; 0 if the process has ended."""
    try:
        status = Path("/proc", str(pid), "status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+([0-9]+) kB", status)
    return int(found[1]) // 1024 if found else 0
