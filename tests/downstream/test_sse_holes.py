"""Server-sent events across a hole: events that neither the disk nor the memory had room for."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.support.filtered import update
from tests.support.journals import event, event_id_of, time_of
from tests.support.sse import PATH, ClosingTransport, SseReader, SseTestCase
from tradeproxy.downstream.subscription import NOT_KEPT
from tradeproxy.wire.event import format_time

HOLE = 27
"""The row after ten events on the disk and sixteen in the backlog."""

LOST = f"position unknown: {NOT_KEPT}"

FILTER = "symbols=QQQ"
"""A filter that no event matches."""


class SseHoleCase(SseTestCase):
    """A proxy with ten events on the disk, and control of its failures, without tests."""

    blocks = False
    """Whether new clients read nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.paper.journal.complete_from = time_of(0)
        self.servers: list[ClosingTransport] = []
        self.wires.transport = self.make_transport  # type: ignore[assignment]  # it is only called

    def make_transport(self, protocol: Any, is_server: bool, **options: Any) -> ClosingTransport:
        """Return one end of a wire, and keep the proxy's ends."""
        transport = ClosingTransport(protocol, is_server, **options)
        if is_server:
            transport.blocked = self.blocks
            self.servers.append(transport)
        return transport

    def overflow(self) -> None:
        """Let the disk fail, and publish 18 events: the last two fit into no memory."""
        self.disk.refuse_writing()
        for n in range(100, 118):
            self.publish(self.paper, event(n, note="x" * 1_000_000).payload)
        self.assertEqual(self.paper.journal.last, HOLE)

    def heal(self) -> None:
        """Let the disk work again, and publish one more event."""
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        self.publish(self.paper, event(200).payload)

    def reject(self, query: str = "", **headers: str) -> str:
        """Return the reason of a rejection, which GET and HEAD both get."""
        self.assertEqual(self.request(f"{PATH}?{query}", "HEAD", **headers).status, 410, query)
        answer = self.request(f"{PATH}?{query}", **headers)
        self.assertEqual(answer.status, 410, query)
        return answer.reason

    def lost_after(self, seq: int) -> str:
        """Return the reason of a rejection whose hole follows this row."""
        return f"position unknown: events after {self.cursor(seq)} were not kept"


class ReconnectingTests(SseHoleCase):
    """A client that reconnects after every drop, as every client does."""

    def run_client(self, query: str, *, keeps_ids: bool = True) -> tuple[list[str], int | None]:
        """Reconnect until the client is served or rejected; return its events and the status."""
        ids: list[str] = []
        last = ""
        for _ in range(5):
            reader = self.get(query, **({"Last_Event_ID": last} if last and keeps_ids else {}))
            if reader.raw.status != 200:
                return ids, reader.raw.status
            ids += reader.ids()
            last = reader.last_event_id or last
            if not reader.raw.gone:
                return ids, 200
        return ids, None

    def test_client_with_position_before_hole_gets_410_and_no_event_twice(self) -> None:
        """It came back for ever: with a filter to nothing new, without one to the same events.

        Eighty connections of a filtered client did not bring it past the hole. An unfiltered one
        got 230,000 events in ten seconds, since events of the backlog have no id.
        """
        since = "since=" + quote(format_time(time_of(5)))
        after_time = "since=" + quote(format_time(time_of(5)).replace("Z", "001Z"))
        positions = (f"since_id={self.cursor(8)}", f"since_id={self.ids[7]}", since, after_time)
        self.overflow()
        for change in (lambda: None, self.heal):
            change()
            for position in (*positions, "replay=20"):
                for query in (position, f"{position}&{FILTER}"):
                    ids, status = self.run_client(query)
                    self.assertEqual((status, len(set(ids))), (410, len(ids)), query)

    def test_client_that_keeps_no_ids_is_not_sent_the_same_events_for_ever(self) -> None:
        """The Go SDK asks for a time, and some programs repeat their query as it was."""
        self.overflow()
        self.heal()
        for query in ("since=" + quote(format_time(time_of(5)).replace("Z", "001Z")), "replay=20"):
            self.assertEqual(self.run_client(query, keeps_ids=False), ([], 410), query)

    def test_client_behind_hole_is_served(self) -> None:
        """Its position is behind the hole, so it misses nothing."""
        self.overflow()
        self.heal()
        since = "since=" + quote(format_time(time_of(118)))
        for query in ("replay=1", f"since_id={self.cursor(HOLE)}", since):
            self.assertEqual(self.run_client(query), ([event_id_of(200)], 200), query)


class HoleAdmissionTests(SseHoleCase):
    """Which requests are rejected because of a hole, and with which reason."""

    def setUp(self) -> None:
        super().setUp()
        self.overflow()

    def test_exact_position_is_served_up_to_the_hole_then_rejected(self) -> None:
        """A browser gets each event once: it resumes from the last id, and then stops."""
        self.heal()
        reader = self.get(f"since_id={self.ids[8]}")
        self.assertEqual(reader.ids(), [self.ids[9], *map(event_id_of, range(100, 116))])
        self.assertEqual((reader.raw.gone, reader.has_ended), (True, False))
        self.assertTrue(reader.text.endswith(f": {NOT_KEPT}\n\n"))
        self.assertEqual(reader.last_event_id, self.cursor(HOLE - 1))
        reason = self.reject(Last_Event_ID=reader.last_event_id)
        self.assertEqual(reason, self.lost_after(HOLE - 1))
        self.assertEqual(self.get(f"since_id={event_id_of(114)}").ids(), [event_id_of(115)])

    def test_reason_has_the_end_of_what_can_be_read(self) -> None:
        """A client without an exact position can still get the events before the hole."""
        self.heal()
        self.assertEqual(self.reject("replay=20"), self.lost_after(HOLE - 1))
        reader = self.get(f"since_id={self.ids[8]}&until_id={self.cursor(HOLE - 1)}")
        self.assertEqual((len(reader.ids()), reader.has_ended), (17, True))

    def test_position_before_rows_that_are_not_durable_is_rejected(self) -> None:
        """These rows have no ids, so the client would ask for them again."""
        for position in (self.cursor(9), self.ids[8]):
            self.assertEqual(self.reject(Last_Event_ID=position), LOST)
        self.assertEqual(self.reject(f"since_id={event_id_of(115)}"), LOST)

    def test_position_before_hole_on_disk_is_rejected_while_disk_fails_again(self) -> None:
        """The hole is durable, whatever happens to later events."""
        self.heal()
        self.disk.refuse_writing()
        self.publish(self.paper, event(201).payload)
        self.assertEqual(self.reject(Last_Event_ID=self.cursor(HOLE - 1)), self.lost_after(26))
        self.assertEqual(
            self.get(Last_Event_ID=self.cursor(HOLE)).ids(), [*map(event_id_of, (200, 201))]
        )

    def test_disk_that_cannot_be_read_is_503(self) -> None:
        """A hole may be among the rows that cannot be read."""
        self.heal()
        self.disk.refuse_everything()
        self.assertEqual(self.request(f"{PATH}?replay=20").status, 503)

    def test_until_id_before_hole_is_served(self) -> None:
        """A hole behind the end does not matter, even if nothing is between begin and end."""
        self.heal()
        steps = self.record_steps()
        for begin, end in ((20, 26), (26, 26), (26, 20)):
            reader = self.get(f"since_id={self.cursor(begin)}&until_id={self.cursor(end)}")
            self.assertEqual(len(reader.ids()), max(end - begin, 0))
            self.assertTrue(reader.has_ended)
        self.assertLess(max(steps), HOLE, "nothing behind the hole is read")
        self.assertEqual(len(self.factory.clients), 0)

    def test_until_behind_hole_is_rejected(self) -> None:
        """A range that ends cleanly has every event. A late one may be in the hole."""
        self.heal()
        for end in (HOLE, HOLE + 1):
            query = f"since_id={self.cursor(20)}&until_id={self.cursor(end)}"
            self.assertEqual(self.reject(query), self.lost_after(26))
        since, until = (quote(format_time(time_of(n))) for n in (2, 5))
        self.assertEqual(self.reject(f"since={since}&until={until}"), self.lost_after(26))

    def test_event_id_of_several_events_is_no_exact_position(self) -> None:
        """A bust and its correction may share an id, which names the first of them."""
        self.heal()
        for n, kind in ((1, "trade_bust"), (2, "trade_correct")):
            self.publish(self.paper, update(300, kind=kind, qty=str(n)))
        self.disk.refuse_writing()
        self.publish(self.paper, event(301, note="x" * 17_000_000).payload)
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        hole = self.paper.journal.last
        self.assertEqual(self.paper.journal.next_hole(HOLE), hole)
        self.assertEqual(self.reject(f"since_id={event_id_of(300)}"), self.lost_after(hole - 1))
        reader = self.get(f"since_id={self.cursor(hole - 2)}")
        self.assertEqual((reader.ids(), reader.raw.gone), ([event_id_of(300)], True))


class ConnectedTests(SseHoleCase):
    """Clients that are connected while events overflow."""

    def get_blocked(self, query: str) -> tuple[SseReader, ClosingTransport]:
        """Return a client that reads nothing, and the proxy's end of its wire."""
        self.blocks = True
        return self.get(query), self.servers[-1]

    def test_client_that_reads_gets_every_event_once_and_then_an_id(self) -> None:
        """After the failure its position is behind the hole, and is sent at once."""
        readers = [self.get(), self.get("events=new")]
        self.overflow()
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        for reader in readers:
            self.assertEqual(reader.ids(), [*map(event_id_of, range(100, 118))])
            self.assertEqual(reader.last_event_id, self.cursor(HOLE))

    def test_client_that_is_behind_at_hole_is_dropped_and_rejected(self) -> None:
        """Its id is from before the hole."""
        for query in ("", "events=new", "replay=0"):
            self.setUp()
            reader, transport = self.get_blocked(query)
            self.blocks = False
            self.overflow()
            transport.blocked = False
            self.wires.flush()
            self.assertEqual((reader.raw.gone, reader.has_ended), (True, False), query)
            self.assertEqual(reader.ids(), [*map(event_id_of, range(100, 116))])
            self.assertEqual(reader.last_event_id, self.cursor(10))
            self.assertEqual(self.reject(query, Last_Event_ID=reader.last_event_id), LOST)

    def test_client_that_reads_slowly_gets_all_events_before_the_drop(self) -> None:
        """An aborted connection loses what is on its way.

        A client behind a proxy that then discards its buffer got nothing, and never came to the
        hole.
        """
        self.heal_small_hole()
        reader, transport = self.get_blocked(f"since_id={self.ids[5]}")
        self.wires.advance(20)
        self.assertFalse(reader.raw.gone)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(reader.ids(), self.ids[6:10])
        self.assertTrue(reader.raw.gone)
        self.assertEqual(len(self.factory.clients), 0)

    def test_client_that_stops_reading_before_hole_is_aborted(self) -> None:
        """It has as long as any other client that does not read."""
        self.heal_small_hole()
        self.get_blocked(f"since_id={self.ids[5]}")
        self.wires.advance(29)
        self.assertEqual(len(self.factory.clients), 1)
        self.wires.advance(2)
        self.assertEqual(len(self.factory.clients), 0)
        self.assertEqual(len(self.paper.broadcaster), 0)
        self.assertEqual(self.factory.clients.rejections.counts, {NOT_KEPT: 1})

    def heal_small_hole(self) -> None:
        """Make a hole behind the ten events on the disk."""
        self.disk.refuse_writing()
        self.publish(self.paper, event(100, note="x" * 17_000_000).payload)
        self.heal()
        hole = self.paper.journal.row(11)
        assert hole is not None
        self.assertIsNone(hole.payload)
