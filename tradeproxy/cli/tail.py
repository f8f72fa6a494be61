"""`tradeproxy tail`: print the stream of one account, and resume it after each disconnect."""

from __future__ import annotations

import os
import re
import signal
import sys
from argparse import ArgumentTypeError
from functools import partial
from stat import S_ISFIFO
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred

from tradeproxy.cli import proxy
from tradeproxy.cli.ask import explain_rejected_token
from tradeproxy.cli.streams import JSON_ESCAPE, replace_unencodable
from tradeproxy.cli.tail_output import JsonLines, LastUpdates, Notices, Sink, Table
from tradeproxy.cli.terminal import PipeWatch, exit_on_broken_pipe
from tradeproxy.cli.times import parse_time_argument
from tradeproxy.runtime.reactor import use_monotonic_clock
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.printable import escape_unprintable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from tradeproxy.client import Client, RefusedError
    from tradeproxy.client.resume import StatusData
    from tradeproxy.runtime.reactor import Reactor

SIGNALLED = 128
"""The exit status after signal N is this plus N, as POSIX shells report it: 130 for ^C."""

MAX_REPLAY = 1_000_000
"""Events: the most that the proxy replays, as in docs/protocol.md."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("account", nargs="?", help="paper, live or your own name; default paper")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--since",
        type=parse_time_argument,
        metavar="TIME",
        help="start with the first event of this time or later",
    )
    begin.add_argument("--since-id", metavar="ID", help="start after this event_id or cursor")
    begin.add_argument(
        "--replay", type=_parse_count, metavar="N", help="start with the last N events that match"
    )
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
    proxy.add_arguments(parser)


def main(arguments: Namespace) -> None:
    """Print events until a rejection by the proxy, a signal, or a closed pipe.

    Raises SystemExit. A rejection or a wrong argument is one line on standard error, with status
    1. After SIGINT or SIGTERM the status is SIGNALLED plus its number. If the reader of standard
    output closes its pipe, the status is 0.
    """
    from twisted.internet import task

    from tradeproxy.client import Client

    url, token = proxy.read_access(arguments)
    replace_unencodable(sys.stdout, JSON_ESCAPE if arguments.json else "replace")
    sink: Sink = JsonLines(sys.stdout) if arguments.json else Table(sys.stdout, os.environ)
    notices = Notices(sys.stderr, os.environ, url)
    replay = arguments.replay
    if replay and (arguments.symbol or arguments.event or arguments.client_order_id_prefix):
        sink, replay = LastUpdates(sink, replay), MAX_REPLAY

    def on_status(status: StatusData) -> None:
        notices.show_status(status)
        if status.get("event") == "replay" and status.get("state") == "complete":
            sink.end_replay()

    try:
        client = Client(
            url,
            key=token or "any",
            secret=token or "any",
            since_id=arguments.since_id,
            since=arguments.since,
            replay=replay,
            symbols=arguments.symbol,
            events=arguments.event,
            client_order_id_prefix=arguments.client_order_id_prefix,
            on_status=on_status,
        )
    except ValueError as error:
        raise SystemExit(f"--{error}") from None

    def explain(error: RefusedError) -> str:
        if error.code in (CloseCode.TOKEN_REFUSED.code, 401):
            return explain_rejected_token(token)
        accounts = proxy.list_accounts(url, token) if error.code == 404 else []
        return f"{error}; accounts here: {', '.join(accounts)}" if accounts else str(error)

    task.react(partial(_follow, client, sink, notices, explain))


def _parse_count(text: str) -> int:
    if re.fullmatch("[0-9]{1,7}", text) and int(text) <= MAX_REPLAY:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a number from 0 to {MAX_REPLAY}")


async def _follow(
    client: Client,
    sink: Sink,
    notices: Notices,
    explain: Callable[[RefusedError], str],
    reactor: Reactor,
) -> None:
    use_monotonic_clock(reactor)
    printing = Deferred.fromCoroutine(_print_updates(client, sink, notices, explain))
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


async def _print_updates(
    client: Client, sink: Sink, notices: Notices, explain: Callable[[RefusedError], str]
) -> None:
    from tradeproxy.client import PositionLostError, RefusedError, Update

    while True:
        try:
            async for update in client:
                assert isinstance(update, Update), "no snapshot was asked for"
                sink.show(update)
        except PositionLostError as error:
            sink.end_replay()
            notices.write(f"events are missing here: {error}")
        except RefusedError as error:
            raise SystemExit(escape_unprintable(f"tradeproxy tail: {explain(error)}")) from None
