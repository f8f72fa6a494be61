"""The clients of a cluster run: some change nodes, some stay, and one reads the whole log."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet import reactor as chosen

from tests.system.chaos.clients import (
    ResumingSseClient,
    ResumingWebSocketClient,
    build_clients,
)
from tests.system.chaos.resuming import ResumingClient
from tests.system.cluster.verdicts import LogLine
from tests.system.cluster.world import NodeProcess, until
from tradeproxy.wire.position import Cursor

reactor: Any = chosen
MAX_REPLAY = "1000000"
"""Events to replay: more than any log has."""

CLIENT_COUNTS = {"cursor": 3, "event_id": 1}
SSE_CLIENTS = 2
HOP_DELAY = (0.05, 0.6)
"""Seconds, at least and at most, until one of the clients changes to another node."""


class LiveOnlyClient(ResumingWebSocketClient):
    """A client without `proxy_status` and without resume: it gets only live events."""

    def __init__(self, name: str, node: NodeProcess) -> None:
        super().__init__(name, lambda: node.port, 0, by_cursor=False)

    def _query(self) -> dict[str, str]:
        return {}


class RetryingSseClient(ResumingSseClient):
    """A client of server-sent events that reconnects at once when it is rejected.

    The proxy keeps the connection open for the next request.
    """

    def status_received(self, status: int) -> None:
        super().status_received(status)
        if status != 200:
            self.kill()


class HoppingClients:
    """Clients that resume on a random node, and now and then change to another one."""

    def __init__(self, nodes: Sequence[NodeProcess], random: Random, since: int) -> None:
        self._nodes = nodes
        self._random = random
        self._next: Any = None
        self.clients: list[ResumingClient] = [
            *build_clients(CLIENT_COUNTS, self._port, since),
            *(
                RetryingSseClient(f"sse {number + 1}", self._port, since)
                for number in range(SSE_CLIENTS)
            ),
        ]

    def _port(self) -> int:
        return self._random.choice(self._nodes).port

    def start(self) -> None:
        """Start to change nodes."""
        self._next = reactor.callLater(self._random.uniform(*HOP_DELAY), self._hop)

    def stop(self) -> None:
        """Stop changing nodes."""
        self._next.cancel()

    def _hop(self) -> None:
        self.start()
        self._random.choice(self.clients).kill()


class WholeLogReader(ResumingWebSocketClient):
    """Reads the whole log of a node by a replay."""

    def __init__(self, node: NodeProcess) -> None:
        super().__init__(node.name, lambda: node.port, 0, by_cursor=True)
        self.lines: list[LogLine] = []
        self.payloads: list[str] = []
        self.is_done = False

    def _query(self) -> dict[str, str]:
        self.lines, self.payloads = [], []
        return {"replay": MAX_REPLAY, "proxy_status": "1"}

    def receive(self, frame: Any) -> None:
        match frame:
            case {"stream": "trade_updates", "data": data, "cursor": text} if not self.is_done:
                cursor = Cursor.parse(text)
                assert cursor is not None
                self.lines.append(
                    LogLine(cursor.epoch, cursor.seq, data["n"], frame.get("recovered"))
                )
                self.payloads.append(repr(data))
            case {"stream": "proxy_status", "data": {"event": "replay", "state": "complete"}}:
                self.is_done = True


async def read_log(node: NodeProcess) -> WholeLogReader:
    """Return a reader that has read the log of a node."""
    reader = WholeLogReader(node)
    reader.start()
    await until(lambda: reader.is_done, f"{node.name} replays its whole log")
    reader.stop()
    return reader
