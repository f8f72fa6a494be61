"""`tradeproxy book import`: the running proxy reads all fills that Alpaca lists, once."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

from tradeproxy.cli import proxy
from tradeproxy.cli.ask import AskError, ask_proxy, reading
from tradeproxy.cli.progress import ProgressBar
from tradeproxy.wire.printable import escape_unprintable

POLL_EVERY = 0.5
"""Seconds between two looks at the progress."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(dest="action", metavar="import", required=True)
    reader = actions.add_parser(
        "import",
        help="have the proxy read all fills that Alpaca lists",
        epilog="The proxy asks for about 30 pages a minute: 3,000 fills. ^C ends the command, not"
        " the import. After a restart of the proxy, the command continues an import.",
    )
    reader.add_argument("--account", help="paper, live or your own name; default paper")
    proxy.add_arguments(reader)


def main(arguments: Namespace) -> None:
    """Begin or continue an import, and show its progress.

    Raises AskError, and SystemExit for a wrong setting.
    """
    url, token = proxy.read_access(arguments)
    bar = ProgressBar(sys.stderr, "fills", is_shown=sys.stderr.isatty())
    try:
        line = _run_import(partial(ask_proxy, base_url=url, token=token), bar)
    finally:
        bar.clear()
    print(escape_unprintable(line))


def _run_import(
    ask: Callable[..., dict[str, Any]],
    bar: ProgressBar,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Follow an import to its end, and return the line about it. Raises AskError."""
    with reading("answer"):
        answer = ask("POST", path="/strategies/import")
        while answer.get("state") == "running":
            bar.show(min(max(float(answer["fraction"]), 0), 1))
            sleep(POLL_EVERY)
            answer = ask("GET", path="/strategies/import")
        if answer["state"] != "done":
            reason = answer["reason"] or "the proxy was restarted"
            raise AskError(f"the import stopped: {reason}; the same command continues it")
        return f"{answer['fills']} fills, {answer['new']} of them new"
