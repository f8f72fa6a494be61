"""Server-sent events: the position that each response and each heartbeat has."""

from __future__ import annotations

from tests.support.sse import SseReader, SseTestCase


class SsePositionTests(SseTestCase):
    """The `id:` lines of heartbeats, from which a client resumes before its first event."""

    def lose(self, reader: SseReader) -> None:
        """Close the connection of a client."""
        assert reader.raw.transport is not None
        reader.raw.transport.loseConnection()
        self.wires.flush()

    def resume(self, reader: SseReader, query: str = "") -> SseReader:
        """Reconnect as a browser does."""
        last = {"Last_Event_ID": reader.last_event_id} if reader.last_event_id else {}
        return self.get(query, **last)

    def test_reconnect_before_first_event_gets_those_of_the_outage(self) -> None:
        """A browser whose network failed before its first event missed the next one.

        It gets no older events. This holds for each form of request, right after the first bytes
        and much later.
        """
        for seconds in (0, 40):
            for query in ("", "symbols=SPY", "symbols=QQQ", "replay=0"):
                reader = self.get(query)
                self.wires.advance(seconds)
                self.lose(reader)
                n = self.paper.journal.last
                self.publish(self.paper, self.events[n])
                self.assertEqual(reader.ids(), [])
                expected = [] if query == "symbols=QQQ" else [self.ids[n]]
                self.assertEqual(self.resume(reader, query).ids(), expected, query)

    def test_first_heartbeat_has_the_position_before_the_first_event(self) -> None:
        """A client that gets only the first bytes of a replay resumes at the replay's beginning."""
        for query, seq in (
            ("replay=3", 7),
            ("replay=99", 0),
            (f"since_id={self.ids[4]}", 5),
            (f"since_id={self.ids[4]}&until_id={self.ids[6]}", 5),
        ):
            reader = self.get(query)
            self.assertTrue(reader.text.startswith(self.heartbeat(seq)), query)
            self.assertEqual(self.get(Last_Event_ID=self.cursor(seq)).ids(), self.ids[seq:10])

    def test_heartbeat_after_events_has_their_position(self) -> None:
        """It counts events that the client has got, and those that its filter has dropped."""
        reader, filtered = self.get(), self.get("symbols=QQQ")
        self.publish(self.paper, *self.events[10:12])
        for each in (reader, filtered):
            each.taken()
        self.wires.advance(15)
        self.assertEqual(reader.taken(), self.heartbeat(12))
        self.assertEqual(filtered.taken(), self.heartbeat(12))

    def test_heartbeat_not_durable_has_no_id_until_it_is(self) -> None:
        """A crash would lose the event and reuse its number. The id follows once it is durable."""
        self.disk.refuse_writing()
        self.publish(self.paper, self.events[10])
        for query in ("", "symbols=QQQ", "replay=0"):
            reader = self.get(query)
            self.wires.advance(15)
            self.assertEqual(reader.taken(), ": heartbeat\n\n" * 2, query)
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        self.assertEqual(reader.taken(), self.heartbeat(11))
        self.publish(self.paper, self.events[11])
        self.assertEqual(self.resume(reader).ids(), [])

    def test_replay_while_not_durable_has_ids_of_durable_events_only(self) -> None:
        """The first comment has none, as the contract promises while the journal is not durable."""
        self.disk.refuse_writing()
        self.publish(self.paper, self.events[10])
        reader = self.get("replay=3")
        self.assertTrue(reader.text.startswith(": heartbeat\n\n"))
        self.assertEqual(reader.last_event_id, self.cursor(10))
        self.assertEqual(self.resume(reader).ids(), [self.ids[10]])

    def test_new_epoch_sends_the_new_position_at_once(self) -> None:
        """The old id is invalid then. A browser that reconnects with it gets 410 and stops."""
        self.paper.identify("one")
        reader = self.get()
        old = reader.last_event_id
        reader.taken()
        self.paper.identify("two")
        self.wires.flush()
        self.assertEqual(reader.taken(), self.heartbeat(10))
        self.assertNotEqual(reader.last_event_id, old)
        self.lose(reader)
        self.publish(self.paper, self.events[10])
        self.assertEqual(self.resume(reader).ids(), [self.ids[10]])

    def test_status_change_alone_sends_nothing(self) -> None:
        """The client has the position already."""
        reader = self.get()
        reader.taken()
        self.paper.mark_upstream_up()
        self.paper.mark_upstream_down("lost")
        self.wires.flush()
        self.assertEqual(reader.taken(), "")
