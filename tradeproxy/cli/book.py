"""`tradeproxy book import`: the running proxy reads all fills that Alpaca lists, once."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace

from tradeproxy.cli import proxy
from tradeproxy.cli.ask import AskError, ask_proxy
from tradeproxy.cli.progress import ProgressBar
from tradeproxy.wire.printable import escape_unprintable

FAILED = 2
"""The exit status if no proxy answers, or if the import fails."""

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


def main(arguments: Namespace) -> int:
    """Begin or continue an import, and show its progress; return the exit status: 0 or FAILED.

    Raises SystemExit for a wrong setting.
    """
    url, token = proxy.read_access(arguments)
    bar = ProgressBar(sys.stderr, "fills", is_shown=sys.stderr.isatty())
    try:
        answer = ask_proxy("POST", url, "/strategies/import", token)
        while answer.get("state") == "running":
            bar.show(float(answer["fraction"]))
            time.sleep(POLL_EVERY)
            answer = ask_proxy("GET", url, "/strategies/import", token)
        bar.clear()
        if answer["state"] != "done":
            reason = answer["reason"] or "the proxy was restarted"
            raise AskError(f"the import stopped: {reason}; the same command continues it")
        print(f"{answer['fills']} fills, {answer['new']} of them new")
    except (AskError, LookupError, TypeError, ValueError) as error:
        bar.clear()
        print(escape_unprintable(str(error)))
        return FAILED
    return 0
