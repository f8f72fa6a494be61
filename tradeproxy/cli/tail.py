"""`tradeproxy tail`: print the stream of one account, and resume it after each disconnect."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from stat import S_ISFIFO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from twisted.internet.defer import CancelledError, Deferred

from tradeproxy.cli.findings import print_findings
from tradeproxy.cli.tail_output import JsonLines, Notices, Table
from tradeproxy.cli.terminal import PipeWatch, escape_unprintable, exit_on_broken_pipe
from tradeproxy.cli.times import parse_time_argument
from tradeproxy.config.addresses import DEFAULT_PORT, parse_port
from tradeproxy.config.env import Environment
from tradeproxy.runtime.monotonic import use_monotonic_clock

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from tradeproxy.client import Client

SIGNALLED = 128
"""The exit status after signal N is this plus N, as POSIX shells report it: 130 for ^C."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command.

    None is a secret: every user of the machine can read command lines.
    """
    parser.add_argument("account", nargs="?", help="paper, live or your own name; default paper")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--since",
        type=parse_time_argument,
        metavar="TIME",
        help="start with the first event of this time or later",
    )
    begin.add_argument("--since-id", metavar="ID", help="start after this event_id or cursor")
    begin.add_argument("--replay", type=int, metavar="N", help="start with the last N events")
    parser.add_argument(
        "--symbol", action="append", default=[], help="only this symbol; may be repeated"
    )
    parser.add_argument(
        "--event", action="append", default=[], help="only this kind of event; may be repeated"
    )
    parser.add_argument(
        "--client-order-id-prefix", default="", metavar="TEXT", help="only orders with this prefix"
    )
    parser.add_argument(
        "--json", action="store_true", help="print each event's data as Alpaca sent it"
    )
    parser.add_argument("--url", help="the proxy; default ws://localhost with PROXY_PORT")
    parser.add_argument(
        "--token-file", metavar="FILE", help="read the token from this file; default PROXY_TOKEN"
    )
    parser.add_argument("--env-file", metavar="FILE", help="read this file instead of .env")


def main(arguments: Namespace) -> None:
    """Print events until a rejection by the proxy, a signal, or a closed pipe.

    Raises SystemExit. A rejection or a wrong argument is one line on standard error, with status
    1. After SIGINT or SIGTERM the status is SIGNALLED plus its number. If the reader of standard
    output closes its pipe, the status is 0.
    """
    from twisted.internet import task

    from tradeproxy.client import Client

    env = Environment.read(os.environ, Path.cwd(), arguments.env_file)
    url = find_url(env, arguments.url, arguments.account)
    token = read_token(env, arguments.token_file)
    print_findings(env.findings)
    sink = JsonLines(sys.stdout) if arguments.json else Table(sys.stdout, os.environ)
    notices = Notices(sys.stderr, os.environ, url)
    try:
        client = Client(
            url,
            key=token,
            secret=token,
            since_id=arguments.since_id,
            since=arguments.since,
            replay=arguments.replay,
            symbols=arguments.symbol,
            events=arguments.event,
            client_order_id_prefix=arguments.client_order_id_prefix,
            on_status=notices.show_status,
        )
    except ValueError as error:
        raise SystemExit(f"--{error}") from None
    task.react(lambda reactor: Deferred.fromCoroutine(_follow(client, sink, notices, reactor)))


async def _follow(client: Client, sink: JsonLines | Table, notices: Notices, reactor: Any) -> None:
    use_monotonic_clock(reactor)
    printing = Deferred.fromCoroutine(_print_updates(client, sink, notices))
    exits: list[SystemExit] = []

    def stop(make_exit: Callable[[], SystemExit]) -> None:
        exits.append(make_exit())
        printing.cancel()

    def handle_signal(number: int, _: object) -> None:
        # A signal handler runs between any two bytecodes; callFromThread defers to the reactor.
        reactor.callFromThread(stop, lambda: SystemExit(SIGNALLED + number))

    for number in (signal.SIGINT, signal.SIGTERM):
        # Not before the reactor runs: at its start, Twisted installs its own handlers.
        reactor.callWhenRunning(signal.signal, number, handle_signal)
    if S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        # The reactor watches a duplicate: exit_on_broken_pipe replaces the descriptor of standard
        # output, and epoll cannot unregister a descriptor that was replaced.
        reactor.addReader(PipeWatch(os.dup(sys.stdout.fileno()), lambda: stop(exit_on_broken_pipe)))
    try:
        await printing
    except CancelledError:
        await client.close()
        raise exits[0] from None
    except BrokenPipeError:
        raise exit_on_broken_pipe() from None


async def _print_updates(client: Client, sink: JsonLines | Table, notices: Notices) -> None:
    from tradeproxy.client import PositionLostError, RefusedError

    while True:
        try:
            async for update in client:
                sink.show(update)
        except PositionLostError as error:
            notices.write(f"events are missing here: {error}")
        except RefusedError as error:
            raise SystemExit(escape_unprintable(f"tradeproxy tail: {error}")) from None


def find_url(env: Environment, url: str | None, account: str | None) -> str:
    """Return the WebSocket URL for `--url` and an account; by default the local proxy and paper.

    A problem with PROXY_PORT goes into `env.findings`. Raises SystemExit for an account beside a
    URL with a path.
    """
    if url is None:
        url = f"ws://localhost:{env.parse('PROXY_PORT', parse_port, DEFAULT_PORT)}"
    if re.match("https?://", url):  # the proxy's log shows its addresses like this
        url = url.replace("http", "ws", 1)
    try:
        has_path = urlsplit(url).path.strip("/") != ""
    except ValueError:
        has_path = True  # Client raises the error for an invalid URL
    if not has_path:
        return f"{url.rstrip('/')}/trade-updates-{quote(account or 'paper', safe='')}"
    if account is not None:
        raise SystemExit("--url: has a path, so an account cannot be given as well")
    return url


def read_token(env: Environment, file: str | None) -> str:
    """Return the token. Errors never quote it.

    If none is set, return "any": a proxy without tokens accepts any text.
    Raises SystemExit if the file is unreadable or empty.
    """
    if file is None:
        return env.read_secret("PROXY_TOKEN") or "any"
    env.warn_of_others("--token-file", file)
    try:
        token = Path(file).read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SystemExit(f"--token-file: cannot be read ({reason})") from None
    if not token:
        raise SystemExit("--token-file: is empty")
    return token
