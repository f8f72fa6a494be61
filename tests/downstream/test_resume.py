"""Clients over WebSockets that resume from a position or ask for `proxy_status`."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.frames import AUTH, AUTHENTICATE, AUTHENTICATED, AUTHORIZED, LISTENING
from tests.support.journals import event, event_id_of
from tests.support.memory import Wires
from tests.support.properties import examples
from tests.support.proxy import NarrowTransport, ProxyTestCase
from tradeproxy.wire.event import format_time

PAPER = "/trade-updates-paper"
BOTH = b'{"action":"listen","data":{"streams":["trade_updates","proxy_status"]}}'
LISTENING_TO_BOTH = b'{"stream":"listening","data":{"streams":["trade_updates","proxy_status"]}}'


class WebSocketResumeTestCase(ProxyTestCase):
    """A proxy with ten events, without tests."""

    def setUp(self) -> None:
        super().setUp()
        self.events = [event(n).payload for n in range(20)]
        self.publish(self.paper, *self.events[:10])

    def resume(self, query: str, path: str = PAPER, *messages: bytes) -> list[bytes]:
        """Connect a client with this query, and return the messages after its auth message."""
        self.client = self.connect(f"{path}?{query}")
        return self.say(self.client, *(messages or (AUTH,)))

    def cursor(self, seq: int) -> str | None:
        """Return the cursor after the event with this sequence number."""
        return self.paper.cursor_at(seq)

    def get_cursors(self, messages: list[bytes]) -> list[tuple[str, Any]]:
        """Return the kind and cursor of each frame.

        The kind is the state of a replay frame, the id of an event, or the kind of another frame.
        """
        cursors: list[tuple[str, Any]] = []
        for document in map(json.loads, messages):
            match document:
                case {
                    "stream": "proxy_status",
                    "data": {"event": "replay", "state": str(name), **fields},
                }:
                    cursors.append((name, fields["cursor"]))
                case {"stream": "proxy_status", "data": {"event": str(name), **fields}}:
                    cursors.append((name, fields.get("cursor")))
                case {"stream": "trade_updates", "data": {"event_id": str(name)}, **rest}:
                    cursors.append((name, rest.get("cursor")))
        return cursors


class ResumePositionTests(WebSocketResumeTestCase):
    """The parameters `since_id`, `since` and `replay`."""

    def test_resume_each_position_sends_later_events_after_the_auth_reply(self) -> None:
        """Live events follow, unchanged, for each form of position."""
        for query, number in (
            (f"since_id={event_id_of(3)}", 4),
            (f"since_id={self.cursor(4)}", 4),
            (f"since_id={self.cursor(10)}", 10),
            ("replay=4", 6),
            ("replay=0", 10),
            ("replay=500", 0),
        ):
            self.assertEqual(self.resume(query), [AUTHENTICATED, *self.events[number:10]], query)
            self.assertIsNone(self.client.closed)
        self.publish(self.paper, *self.events[10:12])
        self.assertEqual(self.client.taken(), self.events[10:12])

    def test_resume_since_time_begins_with_the_first_event_of_that_time(self) -> None:
        """A time before the journal's beginning is closed with 4010."""
        now = round(self.clock.seconds() * 1_000_000)
        late = [event(n, at=format_time(now + n)).payload for n in (30, 31, 32)]
        self.publish(self.paper, *late)
        self.assertEqual(self.resume(f"since={format_time(now + 31)}")[1:], late[1:])
        self.assertEqual(self.resume(f"since={format_time(now)}")[1:], late)
        self.resume(f"since={format_time(now - 1)}")
        reason = f"position unknown: the journal begins at {format_time(now)}"
        self.assertEqual(self.client.closed, (4010, reason))

    def test_resume_without_position_sends_no_old_events(self) -> None:
        """So no event is processed twice."""
        self.assertEqual(self.resume("proxy_status=0"), [AUTHENTICATED])

    def test_resume_on_stream_path_begins_after_the_listen_ack(self) -> None:
        """Only the first `listen` begins at the position; a later one begins live."""
        path = f"{PAPER}/stream"
        listen = b'{"action":"listen","data":{"streams":["trade_updates"]}}'
        self.assertEqual(self.resume("replay=2", path, AUTHENTICATE), [AUTHORIZED])
        self.publish(self.paper, self.events[10])
        self.assertEqual(self.say(self.client, listen), [LISTENING, *self.events[9:11]])
        self.say(self.client, b'{"action":"listen","data":{"streams":[]}}')
        self.publish(self.paper, self.events[11])
        self.assertEqual(self.say(self.client, listen), [LISTENING])
        self.publish(self.paper, self.events[12])
        self.assertEqual(self.client.taken(), [self.events[12]])

    def test_resume_unknown_position_closes_4010_with_the_reason(self) -> None:
        """The auth reply is sent before."""
        epoch = self.paper.journal.epoch
        for position, detail in (
            (
                "01KYA98DWAS5PA5B0000009999",
                "no such event is in the journal: it never was, or is no longer kept",
            ),
            (f"live.{epoch}.1.00000000", "it is a cursor of another account"),
            (
                f"paper.{'0' * 16}.1.00000000",
                "it is a cursor of an earlier journal, now replaced",
            ),
            (f"paper.{epoch}.11.00000000", "the journal has no such event at this cursor"),
        ):
            self.assertEqual(self.resume(f"since_id={position}"), [AUTHENTICATED], position)
            self.assertEqual(self.client.closed, (4010, f"position unknown: {detail}"))
            self.assertLessEqual(len(f"position unknown: {detail}"), 123)

    def test_resume_invalid_parameter_is_rejected_before_the_upgrade(self) -> None:
        """Status 400 names the parameter."""
        for path in ("/paper", f"{PAPER}/stream"):
            answer = self.upgrade(f"{path}?since=yesterday")
            self.assertEqual(answer.status, 400)
            self.assertTrue(answer.reason.startswith("since: is not a time"), answer.body)

    def test_resume_across_a_hole_closes_4010_or_sends_impossible(self) -> None:
        """Events before the hole are sent. With `proxy_status` the stream continues after it."""
        self.lose_events()
        reason = "position unknown: events at this place were not kept"
        cursors = self.get_cursors(self.resume("replay=12&proxy_status=1"))
        self.assertIn(("impossible", None), cursors)
        self.assertEqual(cursors[-1][0], "complete")
        self.assertIsNone(self.client.closed)
        resumed = self.client
        self.assertEqual(self.resume("since_id=" + event_id_of(8))[1], self.events[9])
        self.assertEqual(self.client.closed, (4010, reason))
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        self.publish(self.paper, self.events[19])
        self.assertEqual(
            self.get_cursors(resumed.taken())[-1],
            (event_id_of(19), self.cursor(self.paper.journal.last)),
        )

    def lose_events(self) -> None:
        """Publish more events than can wait in memory while the disk takes none."""
        self.disk.refuse_writing()
        for n in range(100, 118):
            self.publish(self.paper, event(n, note="x" * 1_000_000).payload)

    def test_live_client_gets_events_that_are_not_stored(self) -> None:
        """A hole in the journal is none in the live stream."""
        client = self.connect()
        self.say(client, AUTH)
        self.lose_events()
        self.assertEqual(len(client.taken()), 18)
        self.assertIsNone(client.closed)


class ProxyStatusTests(WebSocketResumeTestCase):
    """Frames of `proxy_status`, for clients that ask for them."""

    def test_status_not_requested_is_not_sent(self) -> None:
        """A client that does not ask gets no status frame."""
        client = self.connect()
        self.say(client, AUTH)
        self.paper.mark_upstream_up()
        self.paper.mark_upstream_down("gone")
        self.wires.flush()
        self.assertEqual(client.taken(), [])

    def test_hello_is_sent_between_the_auth_reply_and_the_events(self) -> None:
        """It has the whole state. Every event after it has its cursor."""
        [reply, hello] = self.resume("proxy_status=1")
        self.assertEqual((reply, hello), (AUTHENTICATED, self.paper.hello(10)))
        self.publish(self.paper, self.events[10])
        [update] = self.client.taken()
        self.assertEqual(update, self.events[10][:-1] + f',"cursor":"{self.cursor(11)}"}}'.encode())

    def test_replay_has_begun_before_and_complete_after_its_events(self) -> None:
        """After `complete` every event is live."""
        cursors = self.get_cursors(self.resume("replay=2&proxy_status=1")[1:])
        eight, nine, ten = (self.cursor(n) for n in (8, 9, 10))
        self.assertEqual(
            cursors,
            [
                ("hello", eight),
                ("begun", eight),
                (event_id_of(8), nine),
                (event_id_of(9), ten),
                ("complete", ten),
            ],
        )

    def test_replay_without_events_has_begun_and_complete(self) -> None:
        """The client need not guess that it is over."""
        cursors = self.get_cursors(self.resume("replay=0&proxy_status=1"))
        self.assertEqual([name for name, _ in cursors], ["hello", "begun", "complete"])

    def test_status_unknown_position_sends_impossible_and_continues_live(self) -> None:
        """The frame has the reason and the live cursor."""
        messages = self.resume("since_id=nonsense&proxy_status=1")
        document = json.loads(messages[-1])
        self.assertEqual(
            document["data"],
            {
                "event": "replay",
                "state": "impossible",
                "cursor": self.cursor(10),
                "reason": "no such event is in the journal: it never was, or is no longer kept",
            },
        )
        self.publish(self.paper, self.events[10])
        self.assertEqual(
            self.get_cursors(self.client.taken()), [(event_id_of(10), self.cursor(11))]
        )

    def test_listen_to_proxy_status_sends_hello_and_unlisten_stops_it(self) -> None:
        """The ack comes first."""
        client = self.connect(f"{PAPER}/stream")
        self.say(client, AUTHENTICATE)
        self.assertEqual(self.say(client, BOTH), [LISTENING_TO_BOTH, self.paper.hello(10)])
        self.paper.mark_upstream_up()
        self.wires.flush()
        self.assertEqual([name for name, _ in self.get_cursors(client.taken())][:1], ["upstream"])
        self.say(client, b'{"action":"unlisten","data":{"streams":["proxy_status"]}}')
        self.paper.mark_upstream_down("gone")
        self.publish(self.paper, self.events[10])
        self.assertEqual(client.taken(), [self.events[10]])

    def test_status_event_not_durable_has_no_cursor(self) -> None:
        """A `journal` frame that reports it is sent before."""
        self.resume("proxy_status=1")
        self.disk.refuse_writing()
        self.publish(self.paper, self.events[10])
        cursors = self.get_cursors(self.client.taken())
        self.assertEqual(cursors, [("journal", None), (event_id_of(10), None)])

    def test_status_changes_while_behind_become_one_hello(self) -> None:
        """No frames are buffered. The `hello` follows the events."""
        self.wires.transport = NarrowTransport
        self.resume("proxy_status=1")
        self.client.taken()
        transport = self.server_transport(0)
        transport.blocked = True
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 300)])
        for _ in range(3):
            self.paper.mark_upstream_up()
            self.paper.mark_upstream_down("gone")
        self.wires.flush()
        transport.blocked = False
        self.wires.flush()
        names = [name for name, _ in self.get_cursors(self.client.taken())]
        self.assertEqual(names, [*map(event_id_of, range(100, 300)), "hello"])

    def test_status_changes_during_a_replay_follow_it(self) -> None:
        """No status frame is sent between the events of a replay."""
        self.begin_replay("&proxy_status=1")
        self.paper.mark_upstream_up()
        self.server_transport(0).blocked = False
        self.wires.flush()
        names = [name for name, _ in self.get_cursors(self.client.messages)]
        self.assertEqual(names[:2], ["hello", "begun"])
        self.assertEqual(names[-3:], [event_id_of(299), "complete", "hello"])

    def begin_replay(self, query: str = "") -> None:
        """Connect a client that stops reading in the middle of a replay."""
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 300)])
        self.wires.transport = NarrowTransport
        self.client = self.connect(f"{PAPER}?replay=200{query}")
        self.server_transport(0).blocked = True
        self.client.sendMessage(AUTH)
        self.wires.flush()

    def test_replay_trimmed_meanwhile_closes_4010_or_sends_impossible(self) -> None:
        """With `proxy_status` the stream continues live."""
        for query in ("", "&proxy_status=1"):
            self.setUp()
            self.begin_replay(query)
            self.paper.journal.first = self.paper.journal.last + 1
            self.server_transport(0).blocked = False
            self.wires.flush()
            if not query:
                self.assertEqual(
                    self.client.closed, (4010, "position unknown: it is no longer kept")
                )
                continue
            self.assertIsNone(self.client.closed)
            self.assertEqual(
                self.get_cursors(self.client.taken())[-1], ("impossible", self.cursor(210))
            )
            self.publish(self.paper, self.events[19])
            self.assertEqual(
                self.get_cursors(self.client.taken()), [(event_id_of(19), self.cursor(211))]
            )

    def test_listen_without_trade_updates_stops_the_replay(self) -> None:
        """Status frames are sent at once again, since no event has to come first."""
        path = f"{PAPER}/stream"
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 300)])
        self.wires.transport = NarrowTransport
        client = self.connect(f"{path}?replay=200&proxy_status=1")
        self.say(client, AUTH)
        transport = self.server_transport(0)
        transport.blocked = True
        client.sendMessage(BOTH)
        client.sendMessage(b'{"action":"listen","data":{"streams":["proxy_status"]}}')
        self.wires.flush()
        transport.blocked = False
        self.wires.flush()
        self.paper.broadcaster.publish(self.paper.hello(0))
        self.wires.flush()
        names = [name for name, _ in self.get_cursors(client.taken()) if not name.startswith("01")]
        self.assertEqual(names, ["begun", "hello"])


STEPS = st.lists(
    st.tuples(st.sampled_from(["publish", "block", "read", "flush"]), st.integers(1, 40)),
    max_size=25,
)


class ResumeSeamTests(WebSocketResumeTestCase):
    """Events from the journal and live events make one stream."""

    @examples(25)
    @given(STEPS, st.integers(0, 10), st.booleans(), st.sampled_from([200, 5_000, 60_000]))
    def test_resume_any_reading_pace_sends_each_event_once_in_order(
        self, steps: list[tuple[str, int]], position: int, status: bool, size: int
    ) -> None:
        """Every event after the position is sent once and in order."""
        self.setUp()
        self.wires = Wires(self.clock)
        self.wires.transport = NarrowTransport
        numbers = list(range(10))
        client = self.connect(f"/paper?since_id={self.cursor(position)}&proxy_status={status:d}")
        transport = self.server_transport(0)
        client.sendMessage(AUTH)
        for step, number in steps:
            match step:
                case "publish":
                    for n in range(len(numbers), len(numbers) + number):
                        numbers.append(n)
                        self.paper.publish(event(n, note="x" * size))
                case "block":
                    transport.blocked = True
                case "read":
                    transport.blocked = False
                case "flush":
                    self.wires.flush()
        transport.blocked = False
        self.wires.flush()
        self.assertIsNone(client.closed)
        documents = [json.loads(message) for message in client.messages]
        updates = [d for d in documents if isinstance(d, dict) and d["stream"] == "trade_updates"]
        self.assertEqual(
            [u["data"]["event_id"] for u in updates], [*map(event_id_of, numbers[position:])]
        )
        if status:
            self.assertEqual(
                [u["cursor"] for u in updates],
                [*map(self.cursor, range(position + 1, len(numbers) + 1))],
            )
