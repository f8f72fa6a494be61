"""WebSocket clients across a hole: events that neither the disk nor the memory had room for."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.journals import event, event_id_of, time_of
from tests.support.proxy import Client, NarrowTransport, ProxyTestCase
from tradeproxy.downstream.subscription import NOT_KEPT
from tradeproxy.wire.event import format_time

HOLE = 27
"""The row after ten events on the disk and sixteen in the backlog."""

LOST = (4010, f"position unknown: {NOT_KEPT}")


class WebSocketHoleTests(ProxyTestCase):
    """A client gets each event once, or learns of the hole."""

    def setUp(self) -> None:
        super().setUp()
        self.wires.transport = NarrowTransport
        self.paper.journal.complete_from = time_of(0)
        self.publish(self.paper, *[event(n).payload for n in range(10)])

    def subscribe(self, query: str = "") -> Client:
        """Return a client that has sent its auth message."""
        client = self.connect(f"/paper?{query}")
        client.sendMessage(AUTH)
        self.wires.flush()
        return client

    def overflow(self, first: int = 100, count: int = 18) -> None:
        """Publish events while the disk fails; the first sixteen fit into the backlog."""
        self.disk.refuse_writing()
        for n in range(first, first + count):
            self.publish(self.paper, event(n, note="x" * 1_000_000).payload)

    def heal(self) -> None:
        """Let the disk work again."""
        self.disk.refuse_writing(False)
        self.wires.advance(2)

    def take(self, client: Client) -> list[str]:
        """Return the ids of the events since the last call, and the states of replays."""
        names: list[str] = []
        for document in map(json.loads, client.taken()):
            match document:
                case {"stream": "trade_updates", "data": {"event_id": str(name)}}:
                    names.append(name)
                case {"stream": "proxy_status", "data": {"event": "replay", "state": str(name)}}:
                    names.append(name)
        return names

    def read_cursor(self, client: Client) -> str | None:
        """Return the cursor from which the client would resume: the last one that it got."""
        documents: list[Any] = [json.loads(message) for message in client.messages]
        cursors = [
            each.get("cursor") or each["data"].get("cursor")
            for each in documents
            if isinstance(each, dict)
        ]
        return next(filter(None, reversed(cursors)), None)

    def test_position_before_hole_gets_the_rows_before_it_and_4010(self) -> None:
        """This holds for each form of position, during the failure and after it."""
        ids = [*map(event_id_of, (9, *range(100, 116)))]
        positions = (
            f"since_id={self.paper.cursor_at(9)}",
            f"since_id={event_id_of(8)}",
            "since=" + quote(format_time(time_of(9))),
            "since=" + quote(format_time(time_of(8)).replace("Z", "001Z")),
            "replay=18",
        )
        self.overflow()
        for change in (lambda: None, self.heal):
            change()
            for position in positions:
                client = self.subscribe(position)
                self.assertEqual(client.taken().pop(0), AUTHENTICATED)
                self.assertEqual(client.closed, LOST, position)
                client = self.subscribe(f"{position}&proxy_status=1")
                expected = ["begun", *ids, "impossible", "complete"]
                self.assertEqual(self.take(client), expected, position)
                client = self.subscribe(f"{position}&proxy_status=1&symbols=QQQ")
                self.assertEqual(self.take(client), ["begun", "impossible", "complete"], position)
                self.assertIsNone(client.closed)

    def test_client_at_hole_gets_later_events_of_the_same_hole_once(self) -> None:
        """Its position is the number that these events share. Then the disk works again."""
        self.overflow()
        clients = [
            self.subscribe(query)
            for query in ("", "proxy_status=1", "replay=2&proxy_status=1", "events=new")
        ]
        for client in clients:
            client.taken()
        self.overflow(118, 3)
        self.assertEqual(self.paper.journal.last, HOLE)
        self.heal()
        self.publish(self.paper, event(200).payload)
        for client in clients:
            self.assertEqual(self.take(client), [*map(event_id_of, (118, 119, 120, 200))])
            self.assertIsNone(client.closed)

    def test_client_that_is_behind_at_hole_learns_of_it_once(self) -> None:
        """It did not read while events overflowed, and reads before or after the healing."""
        for changes in (lambda: None, self.heal), (self.heal, lambda: None):
            self.setUp()
            plain, status = self.subscribe(), self.subscribe("proxy_status=1")
            transports = [self.server_transport(number) for number in (0, 1)]
            for client, transport in zip((plain, status), transports, strict=True):
                client.taken()
                transport.blocked = True
            self.overflow()
            changes[0]()
            for transport in transports:
                transport.blocked = False
            self.wires.flush()
            changes[1]()
            self.publish(self.paper, event(200).payload)
            ids = [*map(event_id_of, range(100, 116))]
            self.assertEqual(self.take(plain), ids)
            self.assertEqual(plain.closed, LOST)
            self.assertEqual(self.take(status), [*ids, "impossible", event_id_of(200)])

    def test_resume_after_healing_begins_behind_the_events_that_were_delivered(self) -> None:
        """The last events had no cursor. A client that resumed before the next one got them again.

        It even heard that they were lost. Now it gets the position with the news.
        """
        for query in ("proxy_status=1", "proxy_status=1&symbols=QQQ"):
            self.setUp()
            client = self.subscribe(query)
            self.overflow()
            self.heal()
            cursor = self.read_cursor(client)
            self.assertEqual(cursor, self.paper.cursor_at(HOLE))
            resumed = self.subscribe(f"{query}&since_id={cursor}")
            self.assertEqual(self.take(resumed), ["begun", "complete"])

    def test_hello_after_healing_has_position_of_client_that_has_not_begun(self) -> None:
        """A client that listens to its status only has not used its position yet."""
        since = str(self.paper.cursor_at(3))
        client = self.connect(f"/paper/stream?since_id={quote(since)}")
        client.sendMessage(AUTH)
        client.sendMessage(b'{"action":"listen","data":{"streams":["proxy_status"]}}')
        self.wires.flush()
        client.taken()
        self.disk.refuse_writing()
        self.publish(self.paper, event(11).payload)
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        status = [json.loads(frame)["data"] for frame in client.taken()]
        cursors = {data["cursor"] for data in status if data["event"] == "hello"}
        self.assertEqual(cursors, {since})
