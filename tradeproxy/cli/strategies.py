"""`tradeproxy strategies`: whose positions are whose, and assignments by hand."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tradeproxy.cli import proxy
from tradeproxy.cli.ask import ask_proxy, reading, write_document
from tradeproxy.cli.table import format_table, printable
from tradeproxy.client.snapshot import join_strategies
from tradeproxy.wire.printable import escape_unprintable

MAX_PAGES = 100
"""Pages that are asked for: 1,002 strategies have eleven, unless they have very many
positions or lots."""

MAX_NAME = 24
"""Terminal cells of a strategy's name in the table."""

HEAD = ("strategy", "symbol", "qty", "avg price", "day P&L", "P&L", "fees", "")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(dest="action", metavar="assign")
    assign = actions.add_parser(
        # Options may stand before and behind the word: its defaults must not replace given ones.
        "assign",
        help="assign an order to a strategy by hand",
        argument_default=SUPPRESS,
    )
    for each in (parser, assign):
        each.add_argument("--account", help="paper, live or your own name; default paper")
        each.add_argument("--json", action="store_true", help="print the documents")
        proxy.add_arguments(each)
    assign.add_argument("order", metavar="ORDER", help="the order's id")
    assign.add_argument("name", metavar="NAME", help='the strategy; "" undoes the assignment')


def main(arguments: Namespace) -> None:
    """Print the strategies, or assign an order.

    Raises AskError, and SystemExit for a wrong setting.
    """
    url, token = proxy.read_access(arguments)
    if arguments.action == "assign":
        print(escape_unprintable(_assign(url, token, arguments.order, arguments.name)))
        return
    document = fetch_strategies(url, token)
    lines = list(format_strategies(document))
    print(write_document(document, "strategies") if arguments.json else "\n".join(lines))


def _assign(url: str, token: str, order_id: str, name: str) -> str:
    query = f"strategy={quote(name, safe='')}" if name else "undo=1"
    path = f"/strategies/orders/{quote(order_id, safe='')}?{query}"
    answer = ask_proxy("POST", url, path, token)
    with reading("strategies"):
        return f"order {order_id}: {answer.get('strategy')}"


def fetch_strategies(url: str, token: str) -> dict[str, Any]:
    """Return the page of all strategies. Raises AskError."""
    whole: dict[str, Any] = {}
    query = ""
    for _ in range(MAX_PAGES):
        page = ask_proxy("GET", url, f"/strategies{query}", token)
        with reading("strategies"):
            found = [*whole.get("strategies", []), *page["strategies"]]
            whole = page | {"strategies": join_strategies(found)}
            if not page["more"]:
                break
            query = f"?cursor={quote(page['next'], safe='')}"
    return whole


def format_strategies(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table. Raises AskError for a document of another shape."""
    with reading("strategies"):
        rows = list(_list_rows(document))
        differences = [
            f"{each['symbol']}: the account has {each['account_qty']},"
            f" all strategies together {each['strategies_qty']}"
            for each in document["differences"]
        ]
        notes = [
            f"{each['time']}: {each['kind']} of order {each['order_id']}: {each['message']}"
            for each in document["notes"]
        ]
        is_complete, has_more = document["complete"], document["more"]
    yield from format_table(HEAD, rows, HEAD[2:7])
    if has_more:
        yield f"There are more, behind {MAX_PAGES} pages of the proxy."
    yield from map(escape_unprintable, (*differences, *notes))
    if not is_complete:
        yield "The proxy has not compared its positions with Alpaca's yet."


def _list_rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for strategy in document["strategies"]:
        yield (printable(strategy["name"], MAX_NAME), "", "", "", *_sums(strategy), "")
        for position in strategy["positions"]:
            yield (
                "",
                printable(position["symbol"]),
                printable(position["qty"]),
                printable(position["avg_entry_price"]),
                *_sums(position),
                "account is flat" if position["account_flat"] else "",
            )


def _sums(entry: dict[str, Any]) -> list[str]:
    return [printable(entry[name]) for name in ("realized_intraday_pl", "realized_pl", "fees")]
