"""JSON of any shape from a proxy or a file, in each command that reads it: a line or a text.

For some of it each was a traceback: a number instead of a text, a list, null, a deep nesting.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.cli import test_state, test_strategies
from tests.support.frames import FILL
from tests.support.properties import examples
from tradeproxy.cli import ask, book, export, proxy, state, status, strategies, tail_output
from tradeproxy.cli.ask import AskError
from tradeproxy.cli.export_formats import write_csv, write_lines, write_parquet
from tradeproxy.cli.progress import ProgressBar
from tradeproxy.client import Update
from tradeproxy.client.resume import PositionLostError, ResumeState
from tradeproxy.tradelog.columns import read_logged_event

if TYPE_CHECKING:
    from collections.abc import Callable

ANY = examples(50)

texts = st.text(st.characters(exclude_categories=()), max_size=12)
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, 1e308])
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def nest(depth: int) -> Any:
    """Return a list in lists."""
    nested: Any = []
    for _ in range(depth):
        nested = [nested]
    return nested


values: st.SearchStrategy[Any] = (
    documents | st.sampled_from([300, 900]).map(nest) | st.builds(list) | st.builds(dict)
)


def list_places(document: Any) -> list[tuple[Any, ...]]:
    """Return the keys that lead to each value of a document, at any depth; () is the whole."""
    inner = document if isinstance(document, dict) else dict(enumerate(document))
    return [()] + [
        (key, *place)
        for key, value in inner.items()
        for place in (list_places(value) if isinstance(value, dict | list) else [()])
    ]


@st.composite
def changed(draw: Callable[[Any], Any], valid: Any) -> Any:
    """Return a valid document in which some values, at any depth, are replaced by others."""
    document = {"": copy.deepcopy(valid)}
    for place in draw(st.lists(st.sampled_from(list_places(valid)), max_size=2)):
        holder: Any = document
        keys: tuple[Any, ...] = ("", *place)
        with contextlib.suppress(LookupError, TypeError):  # an earlier change removed it
            for key in keys[:-1]:
                holder = holder[key]
            holder[keys[-1]] = draw(values)
    return document[""]


ORDERS = test_state.page(test_state.order(legs=[test_state.order()]), cursor="c")
POSITION = {"symbol": "AAPL", "side": "long", "qty": "1", "avg_entry_price": "2", "cost_basis": "2"}
POSITIONS = {"positions": [POSITION], "complete": True}
ORDER = {
    **test_state.order(),
    "timeline": [{"seq": 1, "time": "", "event": "new", "qty": "1", "price": None}],
    "timeline_more": False,
}
GAP = {"begin": "2026-07-24T14:42:50Z", "end": None, "outcome": "open", "events": 2, "reason": ""}
ACCOUNT = {
    "ready": False,
    "reason": "down",
    "upstream": {"since": "2026-07-24T14:42:50Z", "state": "down"},
    "last_event": None,
    "events_today": 3,
    "notices": ["one"],
    "gaps": [GAP, GAP | {"end": "2026-07-24T14:42:59Z"}],
}
WEBHOOK = {"name": "a", "account": "paper", "state": "ok", "reason": "", "sent": 3}
STATUS = {
    "started": "2026-07-24T14:42:50Z",
    "accounts": {"paper": ACCOUNT},
    "webhooks": [WEBHOOK],
    "clients": {"slow": 1, "count": 2},
}
NOTICES = [
    {"event": "hello", "upstream": {"state": "down"}, "journal": {"state": "x"}, "gaps": [GAP]},
    {"event": "connection", "state": "down", "reason": "cannot connect: x", "retry_in": 1.5},
    {"event": "gap", **GAP},
    {"event": "gap", **GAP, "end": "2026-07-24T14:42:59Z"},
    {"event": "replay", "state": "impossible", "reason": "x"},
]


class ForeignAnswerTests(SynchronousTestCase):
    """Commands that read a proxy's answer."""

    def show(self, name: str, document: Any) -> None:
        """Print what a command prints for an answer that is a JSON object."""
        if not isinstance(document, dict):
            return
        for module in (state, strategies):
            self.patch(module, "ask_proxy", lambda *_: document)
        for form in ("table", "csv", "json"):
            arguments = Namespace(
                command=name,
                csv=form == "csv",
                json=form == "json",
                watch=False,
                id="1",
                status="all",
                symbol=[],
                client_order_id_prefix="",
                limit=2,
            )
            report = state._find_report(arguments)  # noqa: SLF001
            try:
                fetched = report.fetch("ws://localhost:1/paper", "")
                lines = list(state._write_lines(report, fetched, arguments))  # noqa: SLF001
            except AskError as error:
                self.assertNotIn("\n", str(error))
            else:
                self.assertTrue(all(isinstance(line, str) for line in lines))

    @ANY
    @given(changed(ORDERS))
    def test_orders_of_any_shape(self, document: Any) -> None:
        """`tradeproxy orders`."""
        self.show("orders", document)

    @ANY
    @given(changed(POSITIONS))
    def test_positions_of_any_shape(self, document: Any) -> None:
        """`tradeproxy positions`."""
        self.show("positions", document)

    @ANY
    @given(changed(ORDER))
    def test_order_of_any_shape(self, document: Any) -> None:
        """`tradeproxy order`."""
        self.show("order", document)

    @ANY
    @given(changed(test_strategies.page(more=False)))
    def test_strategies_of_any_shape(self, document: Any) -> None:
        """`tradeproxy strategies`."""
        if not isinstance(document, dict):
            return
        self.patch(strategies, "ask_proxy", lambda *_: document)
        try:
            fetched = strategies.fetch_strategies("", "")
            self.assertTrue(list(strategies.format_strategies(fetched)))
            ask.write_document(fetched, "strategies")
            strategies._assign("", "", "1", "alpha")  # noqa: SLF001
        except AskError as error:
            self.assertNotIn("\n", str(error))

    @ANY
    @given(st.lists(changed({"state": "running", "fraction": 0.5}), max_size=2))
    def test_import_of_any_shape(self, answers: list[Any]) -> None:
        """`tradeproxy book import`."""
        waiting = [each for each in answers if isinstance(each, dict)]
        waiting.append({"state": "done", "fills": 3, "new": 2})
        bar = ProgressBar(io.StringIO(), "fills", is_shown=True, seconds=iter(range(99)).__next__)
        try:
            line = book._run_import(  # noqa: SLF001
                lambda *_, **__: waiting.pop(0), bar, lambda _: None
            )
        except AskError as error:
            line = str(error)
        self.assertIsInstance(line, str)

    @ANY
    @given(changed(STATUS))
    def test_status_of_any_shape(self, document: Any) -> None:
        """`tradeproxy status`, and the list of accounts after a wrong name in `tail`."""
        body = json.dumps(document).encode()
        self.patch(ask, "call_within", lambda *_: (200, body))
        try:
            fetched = proxy.fetch_status("ws://localhost:1", "")
            list(status.describe_status(fetched))
            ask.write_document(fetched, "status")
            all(account["ready"] for account in fetched["accounts"].values())
        except AskError as error:
            self.assertNotIn("\n", str(error))
        ", ".join(proxy.list_accounts("ws://localhost:1/trade-updates-paper", ""))


class ForeignEventTests(SynchronousTestCase):
    """Commands that read events and statuses."""

    @ANY
    @given(changed(json.loads(FILL)))
    def test_tail_shows_event_of_any_shape(self, document: Any) -> None:
        """An `event` that is a list ended the command with a traceback."""
        out = io.StringIO()
        item = ResumeState({}).receive(json.dumps(document).encode())
        if isinstance(item, Update):
            tail_output.Table(out, {}).show(item)
            tail_output.JsonLines(out).show(item)
            self.assertTrue(out.getvalue().endswith("\n"))

    @ANY
    @given(st.lists(st.sampled_from(NOTICES).flatmap(changed), min_size=1, max_size=3))
    def test_tail_shows_status_of_any_shape(self, statuses: list[Any]) -> None:
        """A reason that is a number ended the command with a traceback."""
        notices = tail_output.Notices(io.StringIO(), {}, "ws://localhost:1")
        state = ResumeState({})
        for data in statuses:
            frame = json.dumps({"stream": "proxy_status", "data": data}).encode()
            item = state.receive(frame)
            if isinstance(item, dict):
                notices.show_status(item)
            elif isinstance(item, PositionLostError):
                notices.write(str(item))

    @ANY
    @given(changed(json.loads(FILL)))
    def test_export_writes_event_of_any_shape(self, document: Any) -> None:
        """An `event` that is a list ended the export of trades with a traceback."""
        match document:
            case {"data": {}}:
                event = read_logged_event(json.dumps(document).encode())
                export.is_trade(event)
                write_csv(iter([event]), io.StringIO(), lambda _: "")
                write_lines(iter([event]), io.StringIO())
                write_parquet(iter([event]), io.BytesIO(), {}, lambda _: "")
