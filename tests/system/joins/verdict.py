"""Whether what a client got is the whole: its snapshots, and the events around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from tests.system.joins.clients import JoiningClient, Kind, Snapshot

OPEN = ("new", "partially_filled", "accepted", "pending_new", "pending_cancel")
FILLS = ("fill", "partial_fill")
FILLS_SHOWN = 50
MAX_FRAME = 256 * 1024

State: TypeAlias = tuple[str, Decimal] | None
"""The status of an open order, and what is filled; None if it is closed."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The whole: every event under its number, and the state at the end."""

    events: Mapping[int, dict[str, Any]]
    orders: Mapping[str, dict[str, Any]]
    """The open orders, by id."""
    positions: Mapping[str, Decimal]

    def between(self, after: int, last: int, kind: Kind) -> list[str]:
        """Return the ids of the events that a client must get behind one number, to another."""
        numbers = range(after + 1, last + 1)
        found = (self.events[seq] for seq in numbers if seq in self.events)
        return [data["event_id"] for data in found if kind.wants(data)]


def find_problems(client: JoiningClient, truth: Truth) -> list[str]:
    """Return what is wrong with what a client got; nothing if it is the whole."""
    problems = list(client.problems)
    if not client.snapshots:
        return [*problems, "no snapshot"]
    if client.largest > MAX_FRAME:
        problems.append(f"a frame of {client.largest} bytes")
    problems += _check_events(client, truth)
    for snapshot in client.snapshots:
        problems += _check_fills(client.kind, snapshot, truth)
        problems += _check_orders(client.kind, snapshot, truth)
    if "events" not in client.kind.query:
        problems += _check_end(client, truth)
    return problems


def _check_events(client: JoiningClient, truth: Truth) -> Iterator[str]:
    """Check that each event came once, in order, before the snapshot or behind it."""
    got = [data["event_id"] for data in client.events]
    taken, after = 0, 0
    for number, snapshot in enumerate(client.snapshots):
        found = got[taken : snapshot.before]
        expected = truth.between(after, snapshot.seq, client.kind)
        if number == 0:  # a replay begins somewhere; without one there is nothing before it
            expected = expected[len(expected) - len(found) :] if client.kind.replays else []
        if found != expected:
            yield f"before {snapshot.seq}: {len(found)} events instead of {len(expected)}"
        taken, after = snapshot.before, snapshot.seq
    found, expected = got[taken:], truth.between(after, max(truth.events), client.kind)
    if found != expected:
        missing = len(set(expected).difference(found))
        twice = len(found) - len(set(found))
        yield f"behind {after}: {len(found)} events, {missing} missing, {twice} twice"


def _check_fills(kind: Kind, snapshot: Snapshot, truth: Truth) -> Iterator[str]:
    seqs = [s for s in sorted(truth.events) if s <= snapshot.seq]
    newest = [data for seq in seqs if (data := truth.events[seq])["event"] in FILLS][-FILLS_SHOWN:]
    expected = [data["event_id"] for data in newest if _selects(kind, data["order"])]
    if [fill["event_id"] for fill in snapshot.fills] != expected:
        yield f"the fills at {snapshot.seq} are others"


def _check_orders(kind: Kind, snapshot: Snapshot, truth: Truth) -> Iterator[str]:
    """Check that each order is as the events up to the snapshot leave it, or in a later state.

    Alpaca's answer to a request may be ahead of the log.
    """
    shown = {order["id"]: order for order in snapshot.orders}
    if len(shown) != len(snapshot.orders):
        yield f"an order twice at {snapshot.seq}"
    allowed: dict[str, set[State]] = {}
    for seq in sorted(truth.events):
        order = truth.events[seq]["order"]
        if _selects(kind, order):
            state = _brief(order if order["status"] in OPEN else None)
            if seq <= snapshot.seq:
                allowed[order["id"]] = {state}
            elif order["id"] in allowed:
                allowed[order["id"]].add(state)
    wrong = [key for key, states in allowed.items() if _brief(shown.get(key)) not in states]
    if wrong:
        yield f"{len(wrong)} of {len(allowed)} orders at {snapshot.seq} are others"


def _check_end(client: JoiningClient, truth: Truth) -> Iterator[str]:
    """Compare the last snapshot, with the events behind it, with the state at the end."""
    snapshot = client.snapshots[-1]
    behind = client.events[snapshot.before :]
    orders = fold({order["id"]: order for order in snapshot.orders}, behind)
    expected = {key: order for key, order in truth.orders.items() if _selects(client.kind, order)}
    if not snapshot.is_complete:  # orders without any event are missing
        with_events = {data["order"]["id"] for data in truth.events.values()}
        expected = {key: order for key, order in expected.items() if key in with_events}
        orders = {key: order for key, order in orders.items() if key in with_events}
    if {k: _brief(o) for k, o in orders.items()} != {k: _brief(o) for k, o in expected.items()}:
        wrong = orders.keys() ^ expected.keys()
        yield f"at the end {len(orders)} orders instead of {len(expected)}: {sorted(wrong)[:3]}"
    if "client_order_id_prefix" in client.kind.query:
        return  # it gets only its own fills of each position
    positions = {each["symbol"]: Decimal(each["qty"]) for each in snapshot.positions}
    for data in behind:
        if data["event"] in FILLS:
            positions[data["order"]["symbol"]] = Decimal(data["position_qty"])
    wanted = client.kind.query.get("symbols", "")
    expected_positions = {
        symbol: qty
        for symbol, qty in truth.positions.items()
        if not wanted or symbol in wanted.split(",")
    }
    if {symbol: qty for symbol, qty in positions.items() if qty} != expected_positions:
        yield f"at the end the positions are {positions} instead of {expected_positions}"


def fold(orders: dict[str, Any], events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the open orders after some events."""
    for data in events:
        order = data["order"]
        if order["status"] in OPEN:
            orders[order["id"]] = order
        else:
            orders.pop(order["id"], None)
    return orders


def _selects(kind: Kind, order: dict[str, Any]) -> bool:
    return kind.wants({"order": order, "event": kind.query.get("events", "new").split(",")[0]})


def _brief(order: dict[str, Any] | None) -> State:
    return None if order is None else (order["status"], Decimal(order["filled_qty"]))
