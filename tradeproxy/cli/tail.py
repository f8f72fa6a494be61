"""`tradeproxy tail`: the stream of one account as lines in a terminal, through every restart."""

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

from tradeproxy.cli.tail_output import JsonLines, Notices, Table
from tradeproxy.cli.terminal import PipeWatch, escape_unprintable, exit_on_broken_pipe
from tradeproxy.cli.times import parse_time_argument
from tradeproxy.config.addresses import DEFAULT_PORT, parse_port
from tradeproxy.config.env import Environment

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from tradeproxy.client import Client

SIGNALLED = 128
"""A shell adds to this the number of the signal that has ended a program, as ^C does."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add what the command takes; no secret is among it."""
    parser.add_argument("account", nargs="?", help="paper, live or a name of yours; default paper")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--since",
        type=parse_time_argument,
        metavar="TIME",
        help="first, what came from this time on",
    )
    begin.add_argument(
        "--since-id", metavar="ID", help="first, what came behind this event_id or cursor"
    )
    begin.add_argument("--replay", type=int, metavar="N", help="first, the last N events")
    parser.add_argument(
        "--symbol", action="append", default=[], help="only this one; may be repeated"
    )
    parser.add_argument(
        "--event", action="append", default=[], help="only this kind; may be repeated"
    )
    parser.add_argument(
        "--client-order-id-prefix", default="", metavar="TEXT", help="only such orders"
    )
    parser.add_argument("--json", action="store_true", help="each event's data as Alpaca wrote it")
    parser.add_argument("--url", help="the proxy's; default ws://localhost and PROXY_PORT")
    parser.add_argument("--token-file", metavar="FILE", help="holds the token; default PROXY_TOKEN")
    parser.add_argument("--env-file", metavar="FILE", help="the file to read instead of .env")


def main(arguments: Namespace) -> None:
    """Follow the stream until the proxy refuses, ^C, or the reader of standard output is gone."""
    from twisted.internet import task

    from tradeproxy.client import Client

    env = Environment.read(os.environ, Path.cwd(), arguments.env_file)
    url = _url(env, arguments.url, arguments.account)
    token = _token(env, arguments.token_file)
    if env.findings.problems:
        raise SystemExit("\n".join(env.findings.problems))
    sink = JsonLines(sys.stdout) if arguments.json else Table(sys.stdout, os.environ)
    notices = Notices(sys.stderr, os.environ)
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
    following = Deferred.fromCoroutine(_show(client, sink, notices))
    why: list[SystemExit] = []

    def leave(ending: Callable[[], SystemExit]) -> None:
        why.append(ending())
        following.cancel()

    def interrupt(number: int, _: object) -> None:
        reactor.callFromThread(leave, lambda: SystemExit(SIGNALLED + number))

    for number in (signal.SIGINT, signal.SIGTERM):
        reactor.callWhenRunning(
            signal.signal, number, interrupt
        )  # then, or Twisted puts its own there
    if S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        # A copy is watched: leave_pipe puts something else in its place, which epoll would not let go of.
        reactor.addReader(
            PipeWatch(os.dup(sys.stdout.fileno()), lambda: leave(exit_on_broken_pipe))
        )
    try:
        await following
    except CancelledError:
        await client.close()
        raise why[0] from None
    except BrokenPipeError:
        raise exit_on_broken_pipe() from None


async def _show(client: Client, sink: JsonLines | Table, notices: Notices) -> None:
    from tradeproxy.client import PositionLostError, RefusedError

    while True:
        try:
            async for update in client:
                sink.show(update)
        except PositionLostError as lost:
            notices.write(f"events are missing here: {lost}")
        except RefusedError as refused:
            raise SystemExit(escape_unprintable(f"tradeproxy tail: {refused}")) from None


def _url(env: Environment, url: str | None, account: str | None) -> str:
    if url is None:
        url = f"ws://localhost:{env.parse('PROXY_PORT', parse_port, DEFAULT_PORT)}"
    if re.match("https?://", url):  # as the proxy's log has it
        url = url.replace("http", "ws", 1)
    try:
        has_path = urlsplit(url).path.strip("/") != ""
    except ValueError:
        has_path = True  # the client says what is wrong with it
    if not has_path:
        return f"{url.rstrip('/')}/trade-updates-{quote(account or 'paper', safe='')}"
    if account is not None:
        raise SystemExit("--url: has a path, which names the account already")
    return url


def _token(env: Environment, file: str | None) -> str:
    """Read the token; "any" without one, for a proxy that has none. No problem quotes it."""
    if file is None:
        return env.read_secret("PROXY_TOKEN") or "any"
    try:
        token = Path(file).read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SystemExit(f"--token-file: cannot be read ({reason})") from None
    if not token:
        raise SystemExit("--token-file: is empty")
    return token
