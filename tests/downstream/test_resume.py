"""Clients that name a position, and what the proxy says of itself, over WebSockets."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.frames import AUTH, AUTHENTICATE, AUTHENTICATED, AUTHORIZED, LISTENING
from tests.support.journals import event, event_id_of
from tests.support.memory import Wires
from tests.support.proxy import NarrowTransport, ProxyTestCase
from tradeproxy.wire.event import format_time

PAPER = "/trade-updates-paper"
BOTH = b'{"action":"listen","data":{"streams":["trade_updates","proxy_status"]}}'
LISTENING_TO_BOTH = b'{"stream":"listening","data":{"streams":["trade_updates","proxy_status"]}}'


class ResumeTestCase(ProxyTestCase):
    """A proxy that has had ten events; it holds no test."""

    def setUp(self) -> None:
        super().setUp()
        self.events = [event(n).payload for n in range(20)]
        self.publish(self.paper, *self.events[:10])

    def resume(self, query: str, path: str = PAPER, *messages: bytes) -> list[bytes]:
        """Return what a new client is sent upon its auth message."""
        self.client = self.connect(f"{path}?{query}")
        return self.say(self.client, *(messages or (AUTH,)))

    def cursor(self, seq: int) -> str | None:
        """Return the cursor behind the event with this number."""
        return self.paper.cursor_at(seq)

    def status(self, messages: list[bytes]) -> list[tuple[str, Any]]:
        """Return what is told of a replay, the events' numbers, and which other status there is."""
        told: list[tuple[str, Any]] = []
        for document in map(json.loads, messages):
            match document:
                case {
                    "stream": "proxy_status",
                    "data": {"event": "replay", "state": str(name), **fields},
                }:
                    told.append((name, fields["cursor"]))
                case {"stream": "proxy_status", "data": {"event": str(name), **fields}}:
                    told.append((name, fields.get("cursor")))
                case {"stream": "trade_updates", "data": {"event_id": str(name)}, **rest}:
                    told.append((name, rest.get("cursor")))
        return told


class PositionTests(ResumeTestCase):
    """`?since_id=`, `?since=` and `?replay=`."""

    def test_all_that_followed_comes_after_the_auth_reply(self) -> None:
        """And then the live stream, untouched, in each of the ways to name a position."""
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

    def test_a_time_is_a_position_too(self) -> None:
        """With the first event of that time or a later one; before the journal began there is none."""
        now = round(self.clock.seconds() * 1_000_000)
        late = [event(n, at=format_time(now + n)).payload for n in (30, 31, 32)]
        self.publish(self.paper, *late)
        self.assertEqual(self.resume(f"since={format_time(now + 31)}")[1:], late[1:])
        self.assertEqual(self.resume(f"since={format_time(now)}")[1:], late)
        self.resume(f"since={format_time(now - 1)}")
        reason = f"position unknown: the journal begins at {format_time(now)}"
        self.assertEqual(self.client.closed, (4010, reason))

    def test_without_a_position_old_events_are_never_shown(self) -> None:
        """So that none is acted on twice."""
        self.assertEqual(self.resume("proxy_status=0"), [AUTHENTICATED])

    def test_on_alpacas_path_it_begins_with_the_ack_of_listen(self) -> None:
        """The first time at the position, and afterwards with what comes."""
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

    def test_a_position_that_is_not_to_be_had_closes_the_connection(self) -> None:
        """4010 says why; the auth reply has been sent."""
        epoch = self.paper.journal.epoch
        for position, why in (
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
            self.assertEqual(self.client.closed, (4010, f"position unknown: {why}"))
            self.assertLessEqual(len(f"position unknown: {why}"), 123)

    def test_what_cannot_be_read_is_refused_before_the_upgrade(self) -> None:
        """With a line that names the parameter."""
        for path in ("/paper", f"{PAPER}/stream"):
            answer = self.upgrade(f"{path}?since=yesterday")
            self.assertEqual(answer.status, 400)
            self.assertTrue(answer.body.startswith("since: is not a time"), answer.body)

    def test_a_place_where_events_were_not_kept_is_not_passed_over(self) -> None:
        """What comes before it is sent; then the connection is closed, or who asked for status is told."""
        self.lose_events()
        reason = "position unknown: events at this place were not kept"
        told = self.status(self.resume("replay=12&proxy_status=1"))
        self.assertIn(("impossible", None), told)
        self.assertEqual(told[-1][0], "complete")
        self.assertIsNone(self.client.closed)
        heard = self.client
        self.assertEqual(self.resume("since_id=" + event_id_of(8))[1], self.events[9])
        self.assertEqual(self.client.closed, (4010, reason))
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        self.publish(self.paper, self.events[19])
        self.assertEqual(
            self.status(heard.taken())[-1], (event_id_of(19), self.cursor(self.paper.journal.last))
        )

    def lose_events(self) -> None:
        """Let the disk refuse more events than can wait for it."""
        self.disk.refuse_writing()
        for n in range(100, 118):
            self.publish(self.paper, event(n, note="x" * 1_000_000).payload)

    def test_who_is_live_has_even_those_events(self) -> None:
        """A hole in the journal is none in what is delivered meanwhile."""
        client = self.connect()
        self.say(client, AUTH)
        self.lose_events()
        self.assertEqual(len(client.taken()), 18)
        self.assertIsNone(client.closed)


class StatusTests(ResumeTestCase):
    """What the proxy says of itself to those who ask."""

    def test_nobody_else_hears_of_it(self) -> None:
        """Whatever happens."""
        client = self.connect()
        self.say(client, AUTH)
        self.paper.mark_upstream_up()
        self.paper.mark_upstream_down("gone")
        self.wires.flush()
        self.assertEqual(client.taken(), [])

    def test_hello_stands_between_the_auth_reply_and_the_events(self) -> None:
        """It has all there is to know; every event then has its cursor."""
        [reply, hello] = self.resume("proxy_status=1")
        self.assertEqual((reply, hello), (AUTHENTICATED, self.paper.hello(10)))
        self.publish(self.paper, self.events[10])
        [update] = self.client.taken()
        self.assertEqual(update, self.events[10][:-1] + f',"cursor":"{self.cursor(11)}"}}'.encode())

    def test_a_replay_is_framed(self) -> None:
        """Hello where it begins, begun, events, complete: from then on what comes is news."""
        told = self.status(self.resume("replay=2&proxy_status=1")[1:])
        eight, nine, ten = (self.cursor(n) for n in (8, 9, 10))
        self.assertEqual(
            told,
            [
                ("hello", eight),
                ("begun", eight),
                (event_id_of(8), nine),
                (event_id_of(9), ten),
                ("complete", ten),
            ],
        )

    def test_a_replay_of_nothing_is_complete_too(self) -> None:
        """The client need not guess."""
        told = self.status(self.resume("replay=0&proxy_status=1"))
        self.assertEqual([name for name, _ in told], ["hello", "begun", "complete"])

    def test_a_position_that_is_not_to_be_had_is_told(self) -> None:
        """And the live stream begins."""
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
        self.assertEqual(self.status(self.client.taken()), [(event_id_of(10), self.cursor(11))])

    def test_it_can_be_listened_to(self) -> None:
        """Like any stream; the ack comes first, and unlisten ends it."""
        client = self.connect(f"{PAPER}/stream")
        self.say(client, AUTHENTICATE)
        self.assertEqual(self.say(client, BOTH), [LISTENING_TO_BOTH, self.paper.hello(10)])
        self.paper.mark_upstream_up()
        self.wires.flush()
        self.assertEqual([name for name, _ in self.status(client.taken())][:1], ["upstream"])
        self.say(client, b'{"action":"unlisten","data":{"streams":["proxy_status"]}}')
        self.paper.mark_upstream_down("gone")
        self.publish(self.paper, self.events[10])
        self.assertEqual(client.taken(), [self.events[10]])

    def test_events_that_are_not_on_the_disk_have_no_cursor(self) -> None:
        """And the frame that says so comes before them."""
        self.resume("proxy_status=1")
        self.disk.refuse_writing()
        self.publish(self.paper, self.events[10])
        told = self.status(self.client.taken())
        self.assertEqual(told, [("journal", None), (event_id_of(10), None)])

    def test_who_falls_behind_is_told_all_there_is_to_know_afterwards(self) -> None:
        """Frames are not kept for it: several changes become one hello, behind the events."""
        self.wires.transport = NarrowTransport
        self.resume("proxy_status=1")
        self.client.taken()
        transport = self.transport_of(0)
        transport.blocked = True
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 300)])
        for _ in range(3):
            self.paper.mark_upstream_up()
            self.paper.mark_upstream_down("gone")
        self.wires.flush()
        transport.blocked = False
        self.wires.flush()
        names = [name for name, _ in self.status(self.client.taken())]
        self.assertEqual(names, [*map(event_id_of, range(100, 300)), "hello"])

    def test_what_changes_during_a_replay_comes_after_it(self) -> None:
        """A replay is not torn apart by news."""
        self.begin_replay("&proxy_status=1")
        self.paper.mark_upstream_up()
        self.transport_of(0).blocked = False
        self.wires.flush()
        names = [name for name, _ in self.status(self.client.messages)]
        self.assertEqual(names[:2], ["hello", "begun"])
        self.assertEqual(names[-3:], [event_id_of(299), "complete", "hello"])

    def begin_replay(self, query: str = "") -> None:
        """Connect a client that stops to read in the middle of a replay."""
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 300)])
        self.wires.transport = NarrowTransport
        self.client = self.connect(f"{PAPER}?replay=200{query}")
        self.transport_of(0).blocked = True
        self.client.sendMessage(AUTH)
        self.wires.flush()

    def test_a_replay_that_is_overtaken_by_the_trimming_is_lost(self) -> None:
        """Its position is no longer to be had; who asked for the status is told, and goes on live."""
        for query in ("", "&proxy_status=1"):
            self.setUp()
            self.begin_replay(query)
            self.paper.journal.first = self.paper.journal.last + 1
            self.transport_of(0).blocked = False
            self.wires.flush()
            if not query:
                self.assertEqual(
                    self.client.closed, (4010, "position unknown: it is no longer kept")
                )
                continue
            self.assertIsNone(self.client.closed)
            self.assertEqual(self.status(self.client.taken())[-1], ("impossible", self.cursor(210)))
            self.publish(self.paper, self.events[19])
            self.assertEqual(
                self.status(self.client.taken()), [(event_id_of(19), self.cursor(211))]
            )

    def test_who_stops_listening_in_the_middle_of_a_replay_is_sent_no_more_of_it(self) -> None:
        """What happened meanwhile is told at once, since no event is owed any more."""
        path = f"{PAPER}/stream"
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 300)])
        self.wires.transport = NarrowTransport
        client = self.connect(f"{path}?replay=200&proxy_status=1")
        self.say(client, AUTH)
        transport = self.transport_of(0)
        transport.blocked = True
        client.sendMessage(BOTH)
        client.sendMessage(b'{"action":"listen","data":{"streams":["proxy_status"]}}')
        self.wires.flush()
        transport.blocked = False
        self.wires.flush()
        self.paper.broadcaster.announce(self.paper.hello(0))
        self.wires.flush()
        names = [name for name, _ in self.status(client.taken()) if not name.startswith("01")]
        self.assertEqual(names, ["begun", "hello"])


STEPS = st.lists(
    st.tuples(st.sampled_from(["publish", "block", "read", "flush"]), st.integers(1, 40)),
    max_size=25,
)


class SeamTests(ResumeTestCase):
    """A position, what is read of the journal, and what comes meanwhile make one stream."""

    @settings(deadline=None, derandomize=True, max_examples=60)
    @given(STEPS, st.integers(0, 10), st.booleans(), st.sampled_from([200, 5_000, 60_000]))
    def test_the_copy_is_whole(
        self, steps: list[tuple[str, int]], position: int, status: bool, size: int
    ) -> None:
        """Every event behind the position comes once and in order, however the client reads."""
        self.setUp()
        self.wires = Wires(self.clock)
        self.wires.transport = NarrowTransport
        numbers = list(range(10))
        client = self.connect(f"/paper?since_id={self.cursor(position)}&proxy_status={status:d}")
        transport = self.transport_of(0)
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
