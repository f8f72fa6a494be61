"""`tradeproxy status`: whether the proxy runs, and the state of its accounts, gaps and clients."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tradeproxy.cli import proxy
from tradeproxy.cli.ask import reading, write_document
from tradeproxy.cli.findings import print_findings
from tradeproxy.cli.tail_output import format_status
from tradeproxy.cli.times import format_local_time
from tradeproxy.config.env import Environment
from tradeproxy.wire.plural import plural
from tradeproxy.wire.printable import escape_unprintable

TROUBLE = 1
"""The exit status if an account has a problem."""

MAX_GAPS = 3
"""The newest gaps of an account that are shown."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", action="store_true", help="print the document at /status.json")
    proxy.add_arguments(parser)


def main(arguments: Namespace) -> int:
    """Print the status, and return the exit status: 0 or TROUBLE.

    Raises AskError, and SystemExit for a wrong setting.
    """
    env = Environment.read(os.environ, Path.cwd(), arguments.env_file)
    url = proxy.find_base_url(env, arguments.url)
    token = proxy.read_token(env, arguments.token_file)
    print_findings(env.findings)
    document = proxy.fetch_status(url, token)
    lines = list(describe_status(document))
    if arguments.json:
        print(write_document(document, "status"))
    else:
        print("\n".join(map(escape_unprintable, lines)))
    is_ready = all(account["ready"] for account in document["accounts"].values())
    return 0 if is_ready else TROUBLE


def describe_status(document: dict[str, Any]) -> Iterator[str]:
    """Yield the lines for a document of /status.json. Raises AskError for another shape."""
    with reading("status"):
        yield f"running since {format_local_time(document['started'])}"
        for name, account in document["accounts"].items():
            yield from _describe_account(name, account)
        for webhook in document.get("webhooks", ()):  # an older proxy has none
            yield _describe_webhook(webhook)
        clients = document["clients"]
        slow = f", {clients['slow']} of them slow" if clients["slow"] else ""
        yield f"clients: {clients['count']}{slow}"


def _describe_webhook(webhook: dict[str, Any]) -> str:
    reason = f": {webhook['reason']}" if webhook["reason"] else ""
    sent = plural(webhook["sent"], "message")
    return (
        f"webhook {webhook['name']}: {webhook['account']}: {webhook['state']}{reason}, {sent} sent"
    )


def _describe_account(name: str, account: dict[str, Any]) -> Iterator[str]:
    since = format_local_time(account["upstream"]["since"])
    state = "streaming" if account["upstream"]["state"] == "up" else "down"
    reason = "" if account["ready"] else f": {account['reason']}"
    yield f"{name}: {state} since {since}{reason}"
    last = account["last_event"]
    newest = "" if last is None else f", the last one at {format_local_time(last)}"
    yield f"    {plural(account['events_today'], 'event')} since midnight UTC{newest}"
    yield from (f"    {notice}" for notice in account.get("notices", ()))
    for gap in account["gaps"][-MAX_GAPS:]:
        yield from (f"    {line}" for line in format_status({"event": "gap", **gap}))
