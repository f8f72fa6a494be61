"""A client that wants the state of the account before the events."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.client.test_client import URL, ClientTestBase
from tests.client.test_resume import HERE, THERE, status
from tests.support.frames import NEW
from tests.support.state import StateTestCase
from tradeproxy.client import AccountSnapshot, PositionLostError, RefusedError, StateError, Update
from tradeproxy.client import snapshot as snapshots
from tradeproxy.client.base import STATE_TIMEOUT
from tradeproxy.client.resume import ResumeState
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.frame import frame_event, with_cursor


def part(number: int, *, last: bool = False, **data: Any) -> bytes:
    """Return a frame with a part of a snapshot."""
    data = {"part": number, "last": last, "account": "paper", "complete": True} | data
    return json.dumps({"stream": "snapshot", "data": data}).encode()


class ResumeWithSnapshotTests(SynchronousTestCase):
    """What each message means to the position of such a client."""

    def test_parts_are_one_snapshot_and_its_cursor_the_position(self) -> None:
        """The next connection resumes there, and has no snapshot: it would repeat what is known."""
        place = ResumeState({}, wants_snapshot=True)
        self.assertEqual(place.next_query(), {"snapshot": "1"})
        self.assertIsNone(place.receive(part(1, orders=[{"id": "1"}], fills=[])))
        found = place.receive(part(2, last=True, cursor=HERE, orders=[{"id": "2"}], positions=[]))
        self.assertEqual(found, AccountSnapshot("paper", HERE, True, ({"id": "1"}, {"id": "2"})))
        self.assertEqual(place.next_query(), {"since_id": HERE})
        self.assertIsNone(place.receive(part(1, last=True, cursor=THERE)))
        self.assertEqual(place.cursor, HERE)

    def test_unfinished_snapshot_is_requested_again_from_the_start(self) -> None:
        """Otherwise the client would take events behind a snapshot that it does not have."""
        place = ResumeState({}, wants_snapshot=True)
        place.next_query()
        place.receive(status("hello", cursor=HERE))
        place.receive(part(1, orders=[{"id": "1"}]))
        self.assertEqual(place.next_query(), {"snapshot": "1"})
        place.receive(part(1, orders=[{"id": "2"}]))
        place.receive(part(1, orders=[{"id": "3"}]))  # a new epoch begins it again
        found = place.receive(part(2, last=True, cursor=None))
        assert isinstance(found, AccountSnapshot)
        self.assertEqual(found.orders, ({"id": "3"},))

    def test_replay_before_the_snapshot_moves_the_position(self) -> None:
        """A disconnect between the replay and the snapshot repeats neither."""
        place = ResumeState({"since_id": HERE}, wants_snapshot=True)
        self.assertEqual(place.next_query(), {"since_id": HERE, "snapshot": "1"})
        place.receive(status("replay", state="begun", cursor=HERE))
        place.receive(with_cursor(frame_event(b"{}"), THERE))
        self.assertEqual(place.next_query(), {"since_id": THERE, "snapshot": "1"})

    def test_snapshot_without_cursor_is_requested_again_without_position(self) -> None:
        """The journal is not durable. Without any position, the next connection would miss events.

        An event that came meanwhile is a position.
        """
        place = ResumeState({}, wants_snapshot=True)
        place.next_query()
        self.assertIsInstance(place.receive(part(1, last=True, cursor=None)), AccountSnapshot)
        self.assertEqual(place.next_query(), {"snapshot": "1"})
        place.receive(part(1, last=True, cursor=None))
        place.receive(frame_event(b'{"event_id":"1"}'))
        self.assertEqual(place.next_query(), {"since_id": "1"})

    def test_lost_position_needs_another_connection_for_a_new_snapshot(self) -> None:
        """The state is the only thing that says what the lost events did."""
        place = ResumeState({}, wants_snapshot=True)
        place.next_query()
        place.receive(part(1, last=True, cursor=HERE))
        place.next_query()
        lost = place.receive(status("replay", state="impossible", cursor=THERE))
        self.assertIsInstance(lost, PositionLostError)
        self.assertTrue(place.is_snapshot_missing)
        self.assertEqual(place.next_query(), {"snapshot": "1"})
        self.assertFalse(place.is_snapshot_missing)

    def test_lost_start_is_followed_by_the_snapshot_of_this_connection(self) -> None:
        """The proxy sends it behind its `replay: impossible`."""
        place = ResumeState({"since_id": HERE}, wants_snapshot=True)
        place.next_query()
        lost = place.receive(status("replay", state="impossible", cursor=THERE))
        self.assertIsInstance(lost, PositionLostError)
        self.assertFalse(place.is_snapshot_missing)
        self.assertIsInstance(place.receive(part(1, last=True, cursor=THERE)), AccountSnapshot)

    def test_snapshot_of_any_shape_is_no_error(self) -> None:
        """Later versions may send more, and other types."""
        place = ResumeState({}, wants_snapshot=True)
        place.next_query()
        odd = part(1, last=True, cursor=7, orders={"a": 1}, fills=[1, {}], account=None, n=10**999)
        self.assertEqual(place.receive(odd), AccountSnapshot("None", None, True, fills=({},)))

    def test_snapshot_without_end_is_refused(self) -> None:
        """It would fill the memory."""
        self.patch(snapshots, "MAX_STATE_SIZE", 1000)
        place = ResumeState({}, wants_snapshot=True)
        place.next_query()
        place.receive(part(1, orders=[{"id": "1" * 800}]))
        self.assertRaises(OverflowError, place.receive, part(2, orders=[{"id": "1" * 800}]))


class SnapshotClientTests(ClientTestBase, StateTestCase):
    """With a proxy whose book is current."""

    def take_item(self, client: Any) -> Update | AccountSnapshot:
        """Return the next item, which is available."""
        item: Update | AccountSnapshot = self.successResultOf(self.next(client))
        return item

    def test_snapshot_is_first_and_events_follow_across_a_reconnect(self) -> None:
        """Its own kind of item, once."""
        self.trade("1")
        client = self.follow(snapshot=True)
        first = self.take_item(client)
        assert isinstance(first, AccountSnapshot)
        self.assertEqual([order["id"] for order in first.orders], ["1"])
        self.assertEqual((first.account, client.cursor), ("paper", self.paper.cursor_at(1)))
        coming = self.next(client)
        self.close_all(CloseCode.RESTARTING)
        self.trade("2")
        self.wires.advance(0.5)
        self.assertIsInstance(self.successResultOf(coming), Update)
        self.assertNoResult(self.next(client))

    def test_lost_position_yields_a_new_snapshot(self) -> None:
        """After PositionLostError the caller iterates again, and gets what is."""
        self.trade("1")
        client = self.follow(since_id=HERE, snapshot=True)
        self.failureResultOf(self.next(client), PositionLostError)
        self.assertIsInstance(self.take_item(client), AccountSnapshot)

    def test_position_that_is_lost_after_a_snapshot_yields_another(self) -> None:
        """The connection that resumed had none."""
        self.paper.identify("1")
        client = self.follow(snapshot=True)
        self.assertIsInstance(self.take_item(client), AccountSnapshot)
        coming = self.next(client)
        self.close_all(CloseCode.RESTARTING)
        self.paper.identify("2")  # of Alpaca: another account, and so another log
        self.wires.advance(0.5)
        self.failureResultOf(coming, PositionLostError)
        self.trade("1")
        coming = self.next(client)
        self.wires.advance(0.5)  # the client asks anew
        found = self.successResultOf(coming)
        assert isinstance(found, AccountSnapshot)
        self.assertEqual([order["id"] for order in found.orders], ["1"])
        self.trade("2")
        self.assertIsInstance(self.take_item(client), Update)

    def test_state_is_one_request(self) -> None:
        """It connects by itself, and changes no position."""
        self.trade("1", "fill")
        client = self.follow()
        state = self.fetch_state(client)
        self.assertEqual(len(state.fills), 1)
        self.assertEqual((state.cursor, client.cursor), (self.paper.cursor_at(1), None))

    def fetch_state(self, client: Any) -> AccountSnapshot:
        """Return the state that a client requests."""
        asked = Deferred.fromCoroutine(client.state())
        for _ in range(50):
            self.wires.advance(0.01)
        state: AccountSnapshot = self.successResultOf(asked)
        return state

    def test_state_that_does_not_come_is_an_error(self) -> None:
        """No proxy, no answer, and another account."""
        client = self.follow(f"{URL}x")
        asked = Deferred.fromCoroutine(client.state())
        for _ in range(50):
            self.wires.advance(0.01)
        self.assertEqual(self.failureResultOf(asked, RefusedError).value.code, 404)
        self.endpoint.refusing = True
        asked = Deferred.fromCoroutine(client.state())
        self.assertIn("refused", str(self.failureResultOf(asked, StateError).value))
        self.endpoint.refusing, self.endpoint.hanging = False, True
        asked = Deferred.fromCoroutine(client.state())
        self.wires.advance(STATE_TIMEOUT)
        self.failureResultOf(asked, StateError)


class NoBookTests(ClientTestBase):
    """A proxy with PROXY_BOOK=0."""

    def test_snapshot_is_refused(self) -> None:
        """A retry cannot help."""
        error = self.failureResultOf(self.next(self.follow(snapshot=True)), RefusedError).value
        self.assertEqual(error.code, 404)
        self.assertIn("PROXY_BOOK", error.reason)
        self.publish(self.paper, NEW)
