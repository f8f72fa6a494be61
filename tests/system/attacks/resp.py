"""A hostile Redis: replies with lengths that it never sends, and lines without an end."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from tests.support.processes import free_port
from tests.system.attacks.sending import DURATION
from tests.system.attacks.target import Attack, Target

reactor: Any = chosen


class HostileRedis(Protocol):
    """Writes a head, then filling for DURATION seconds, once a command arrives."""

    def __init__(self, head: bytes, filling: bytes) -> None:
        self._head, self._filling = head, filling
        self._end = 0.0

    def dataReceived(self, data: bytes) -> None:
        if not self._end:
            self._end = reactor.seconds() + DURATION
            self.transport.write(self._head)  # type: ignore[union-attr]
            self._go_on()

    def _go_on(self) -> None:
        if self.connected and reactor.seconds() < self._end:
            self.transport.write(self._filling)  # type: ignore[union-attr]
            reactor.callLater(0.002, self._go_on)


def build_attack(name: str, head: bytes, filling: bytes) -> Attack:
    """Return an attack on a proxy whose log is in a hostile Redis."""
    port = free_port()
    factory = Factory.forProtocol(lambda: HostileRedis(head, filling))
    factory.noisy = False

    async def perform(_: Target) -> None:
        with ExitStack() as stack:
            listening = reactor.listenTCP(port, factory, interface="127.0.0.1")
            stack.callback(listening.stopListening)
            await deferLater(reactor, DURATION)

    return Attack(
        f"redis: {name}", perform, settings={"PROXY_REDIS_URL": f"redis://127.0.0.1:{port}"}
    )


ATTACKS = (
    build_attack("endless string", b"$400000000\r\n", bytes(262_144)),
    build_attack("endless line", b"+", b"x" * 262_144),
    build_attack("endless array", b"*1000000000\r\n", b":1\r\n" * 65_536),
)
