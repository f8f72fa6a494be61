"""`tradeproxy orders`, `positions` and `order`: what the running proxy knows of an account."""

from __future__ import annotations

import json
import re
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO
from urllib.parse import quote, urlencode

from tradeproxy.cli import proxy
from tradeproxy.cli.ask import AskError, ask_proxy, reading
from tradeproxy.cli.state_output import (
    format_order,
    format_orders,
    format_positions,
    list_csv_orders,
    list_csv_positions,
    list_csv_timeline,
)
from tradeproxy.cli.streams import JSON_ESCAPE, replace_unencodable
from tradeproxy.wire.printable import escape_unprintable

WATCH_EVERY = 2.0
"""Seconds between two requests of `--watch`."""

DEFAULT_LIMIT = 50
MAX_LIMIT = 10_000
"""Orders of `tradeproxy orders`."""

PAGE = 500
"""Orders on one page of the proxy."""

MAX_PAGES = 1_000
"""Pages of one list: a page may be empty while the proxy searches."""

PROBLEM = "\n\nnot current: "
"""Between the text of `--watch` and what is wrong since then."""

_CLEAR = "\x1b[H\x1b[2J"
"""Moves the cursor home and erases the screen (ECMA-48)."""


@dataclass(frozen=True, slots=True)
class StateCommand:
    """What a command shows. All functions raise one of SHAPE_ERRORS for another shape."""

    fetch: Callable[[str, str], dict[str, Any]]
    """Takes the URL of the stream and a token. Raises AskError too."""
    format_table: Callable[[dict[str, Any]], Iterable[str]]
    list_csv: Callable[[dict[str, Any]], Iterable[str]]


def add_orders_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `tradeproxy orders`."""
    parser.add_argument(
        "--status", choices=("open", "closed", "all"), default="open", help="default open"
    )
    parser.add_argument(
        "--symbol", action="append", default=[], help="only this symbol; may be repeated"
    )
    parser.add_argument("--client-order-id-prefix", default="", metavar="TEXT", help="only these")
    parser.add_argument(
        "--limit",
        type=_parse_limit,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"at most so many, the newest first; default {DEFAULT_LIMIT}",
    )
    add_arguments(parser)


def add_order_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `tradeproxy order`."""
    parser.add_argument("id", metavar="ID", help="Alpaca's id of the order, or of a leg")
    add_arguments(parser)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that the three commands share: all of `tradeproxy positions`."""
    parser.add_argument("--account", help="paper, live or your own name; default paper")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the document")
    form.add_argument("--csv", action="store_true", help="print CSV")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="print it again when it has changed; on a terminal, keep it up to date",
    )
    proxy.add_arguments(parser)


def _parse_limit(text: str) -> int:
    if re.fullmatch("[0-9]{1,6}", text) and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_LIMIT}")


def main(arguments: Namespace) -> None:
    """Print what the command asks for.

    With `--watch` it ends by a signal, or by the first request's failure. Raises AskError, and
    SystemExit for a wrong setting.
    """
    if arguments.watch and arguments.csv:
        raise SystemExit("--watch: cannot be combined with --csv")
    url, token = proxy.read_access(arguments)
    replace_unencodable(sys.stdout, JSON_ESCAPE if arguments.json else "replace")
    report = _find_report(arguments)

    def make() -> str:
        return "\n".join(_write_lines(report, report.fetch(url, token), arguments))

    text = make()
    if arguments.watch:
        watch(make, text, sys.stdout)
    print(text)


def watch(
    make: Callable[[], str], text: str, out: TextIO, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Write a text now, and again whenever it has changed, without end.

    `make` makes the text, or raises AskError; `text` is the first one. On a terminal the text
    replaces what is on the screen, and a failed request is a line below it. Elsewhere nothing is
    written for a failed request.
    """
    shown = ""
    while True:
        if text != shown:
            out.write(f"{_CLEAR if out.isatty() else ''}{text}\n")
            out.flush()
            shown = text
        sleep(WATCH_EVERY)
        try:
            text = make()
        except AskError as error:
            if out.isatty():
                text = f"{shown.partition(PROBLEM)[0]}{PROBLEM}{escape_unprintable(str(error))}"


def _find_report(arguments: Namespace) -> StateCommand:
    match arguments.command:
        case "orders":
            query = {
                "status": arguments.status,
                "symbols": ",".join(arguments.symbol),
                "client_order_id_prefix": arguments.client_order_id_prefix,
            }
            given = {name: text for name, text in query.items() if text}
            return StateCommand(
                partial(_fetch_orders, given, arguments.limit),
                partial(format_orders, status=arguments.status),
                list_csv_orders,
            )
        case "positions":
            return StateCommand(
                lambda url, token: ask_proxy("GET", url, "/positions", token),
                format_positions,
                list_csv_positions,
            )
        case _:
            return StateCommand(
                partial(_fetch_order, arguments.id), format_order, list_csv_timeline
            )


def _write_lines(
    report: StateCommand, document: dict[str, Any], arguments: Namespace
) -> Iterator[str]:
    """Yield the lines of the output. Raises AskError for a document of another shape."""
    with reading("answer"):
        if arguments.csv:
            yield from report.list_csv(document)
        elif arguments.json:
            list(report.list_csv(document))  # the answer of a tradeproxy?
            text = json.dumps(document, indent=None if arguments.watch else 2)
            yield escape_unprintable(text) if sys.stdout.isatty() else text
        else:
            yield from report.format_table(document)


def _fetch_orders(query: dict[str, str], limit: int, url: str, token: str) -> dict[str, Any]:
    """Return the page of the first `limit` orders, of as many pages as they take."""
    orders: list[Any] = []
    position: dict[str, str] = {}
    for _ in range(MAX_PAGES):
        size = str(min(limit - len(orders), PAGE))
        with reading("answer"):
            parameters = urlencode({**query, "limit": size, **position})
            page = ask_proxy("GET", url, f"/orders?{parameters}", token)
            orders += page["orders"]
            if not page["more"] or len(orders) >= limit:
                break
            position = {"cursor": page["cursor"]}
    return page | {"orders": orders}


def _fetch_order(order_id: str, url: str, token: str) -> dict[str, Any]:
    """Return an order with its whole timeline."""
    entries: list[Any] = []
    after = 0
    for _ in range(MAX_PAGES):
        with reading("answer"):
            path = f"/orders/{quote(order_id, safe='')}?timeline_after={after}"
            page = ask_proxy("GET", url, path, token)
            entries += page["timeline"]
            if not page["timeline_more"]:
                break
            after = entries[-1]["seq"]
    return page | {"timeline": entries, "timeline_more": False}
