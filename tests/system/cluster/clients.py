"""The clients of a cluster: those that hop between nodes, those that stay, and a reader of the whole log."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet import reactor as chosen

from tests.system.chaos.clients import WebSocketResuming, resuming
from tests.system.cluster.verdicts import Line
from tests.system.cluster.world import Node, until
from tradeproxy.wire.position import Cursor

reactor: Any = chosen
EVERYTHING = "1000000"
"""More events than any log has."""

HOPPING = {"cursor": 3, "event_id": 1, "sse": 2}
HOP = (0.05, 0.6)
"""Seconds, at least and at most, until one of them goes to another node."""


class Plain(WebSocketResuming):
    """A client that knows of nothing but events, and asks for no more than comes while it is connected."""

    def __init__(self, name: str, node: Node) -> None:
        super().__init__(name, lambda: node.port, 0, by_cursor=False)

    def _query(self) -> dict[str, str]:
        return {}


class Hopping:
    """Clients that resume, each on any node, and now and then on another one."""

    def __init__(self, nodes: Sequence[Node], random: Random, since: int) -> None:
        self._nodes = nodes
        self._random = random
        self._next: Any = None
        self.clients = resuming(HOPPING, self._port, since)

    def _port(self) -> int:
        return self._random.choice(self._nodes).port

    def start(self) -> None:
        """Begin to hop."""
        self._next = reactor.callLater(self._random.uniform(*HOP), self._hop)

    def stop(self) -> None:
        """Let them stay where they are."""
        self._next.cancel()

    def _hop(self) -> None:
        self.start()
        self._random.choice(self.clients).kill()


class LogReader(WebSocketResuming):
    """Reads the whole log of a node by a replay."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.name, lambda: node.port, 0, by_cursor=True)
        self.lines: list[Line] = []
        self.payloads: list[str] = []
        self.is_done = False

    def _query(self) -> dict[str, str]:
        self.lines, self.payloads = [], []
        return {"replay": EVERYTHING, "proxy_status": "1"}

    def take(self, frame: Any) -> None:
        match frame:
            case {"stream": "trade_updates", "data": data, "cursor": text} if not self.is_done:
                cursor = Cursor.parse(text)
                assert cursor is not None
                self.lines.append(Line(cursor.epoch, cursor.seq, data["n"], frame.get("recovered")))
                self.payloads.append(repr(data))
            case {"stream": "proxy_status", "data": {"event": "replay", "state": "complete"}}:
                self.is_done = True


async def read_log(node: Node) -> LogReader:
    """Return what the log of a node has."""
    reader = LogReader(node)
    reader.start()
    await until(lambda: reader.is_done, f"{node.name} tells its whole log")
    reader.stop()
    return reader
