"""The `tradeproxy` command, whose parts are listed by `tradeproxy --help`.

`run` stays in the foreground. To run as a daemon, use `twistd tradeproxy`.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevelFilterPredicate, globalLogBeginner

import tradeproxy
from tradeproxy.cli import book, export, init, notify, proxy, state, status, strategies, tail
from tradeproxy.cli.ask import FAILED, AskError, print_error
from tradeproxy.cli.reactor import run_coroutine
from tradeproxy.cli.streams import open_missing_streams, replace_unencodable
from tradeproxy.cli.terminal import exit_on_broken_pipe
from tradeproxy.config import endpoints
from tradeproxy.config.addresses import parse_port
from tradeproxy.config.command import name_command
from tradeproxy.config.env import Environment
from tradeproxy.config.settings import SettingsError, read_settings
from tradeproxy.runtime.rlimits import forbid_core_dumps

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from tradeproxy.cli.check import CheckResult
    from tradeproxy.config.settings import Settings
    from tradeproxy.runtime.reactor import Reactor


SIMULATED_ACCOUNT = "00000000-0000-4000-8000-000000000000"
"""The account id of `tradeproxy simulate`.

It is constant: for a different id, a proxy begins a new epoch of its journal.
"""


def main() -> None:
    """Run the command line.

    Each problem with the settings, or with an option of `run` or `demo`, is one line on standard
    error, and the exit status is 1. For any other usage error, argparse prints the usage and
    exits with 2. If the reader of standard output has closed the pipe, the status is 0;
    after ^C it is 130.
    """
    forbid_core_dumps()
    open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        replace_unencodable(stream)
    try:
        try:
            _run_command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        raise exit_on_broken_pipe() from None
    except KeyboardInterrupt:
        raise SystemExit(tail.SIGNALLED + signal.SIGINT) from None


def _run_command() -> None:
    parser = _make_parser()
    arguments, rest = parser.parse_known_args()
    try:
        _dispatch(parser, arguments, rest)
    except AskError as error:
        print_error(error, as_json=getattr(arguments, "json", False))
        raise SystemExit(FAILED) from None


def _dispatch(parser: ArgumentParser, arguments: Namespace, rest: Sequence[str]) -> None:
    match arguments.command:
        case "run" | "demo":
            _serve(arguments, rest)
        case _ if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        case "simulate":
            _simulate(arguments.port)
        case "init":
            init.main(arguments)
        case "check":
            _check(arguments.env_file)
        case "status":
            raise SystemExit(status.main(arguments))
        case "tail":
            tail.main(arguments)
        case "export":
            export.main(arguments)
        case "notify":
            raise SystemExit(notify.main(arguments))
        case "orders" | "positions" | "order":
            state.main(arguments)
        case "strategies":
            strategies.main(arguments)
        case "book":
            book.main(arguments)
        case "completion":
            import shtab

            print(shtab.complete(parser, arguments.shell))
        case None:
            parser.print_help()


def _make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="tradeproxy", description="One Alpaca trade-updates stream for all your clients."
    )
    _add_version(parser)
    commands = parser.add_subparsers(dest="command", metavar="command")
    run = commands.add_parser("run", help="run the proxy in the foreground", allow_abbrev=False)
    run.add_argument(
        "--demo", action="store_true", help="serve an embedded Alpaca with random orders"
    )
    demo = commands.add_parser(
        "demo", help="run the proxy with an embedded Alpaca and random orders", allow_abbrev=False
    )
    for server in (run, demo):
        _add_version(server)
        server.add_argument("-p", "--port", help="the port to listen on, instead of PROXY_PORT")
        server.add_argument("-e", "--env-file", metavar="FILE", help="read this file, not .env")
        server.add_argument(
            "-l",
            "--listen",
            action="append",
            default=[],
            metavar="ENDPOINT",
            help="a Twisted endpoint to listen on, instead of PROXY_LISTEN; may be repeated",
        )
    init.add_arguments(
        commands.add_parser("init", help="ask for your keys, try them and write .env")
    )
    check = commands.add_parser("check", help="check the settings and each account's login")
    check.add_argument("--env-file", metavar="FILE", help="read this file instead of .env")
    status.add_arguments(
        commands.add_parser(
            "status",
            help="show the state of the running proxy",
            epilog="The exit status is 0 if all is well, 1 if an account has a problem, and 2 if"
            " no proxy answers or it rejects the token.",
        )
    )
    tail.add_arguments(
        commands.add_parser("tail", help="follow an account's trade updates in the terminal")
    )
    export.add_arguments(
        commands.add_parser(
            "export", help="write a day's trades of an account as JSON lines or CSV"
        )
    )
    notify.add_arguments(commands.add_parser("notify", help="send a test message to a webhook"))
    state.add_orders_arguments(commands.add_parser("orders", help="list an account's orders"))
    state.add_arguments(commands.add_parser("positions", help="list an account's positions"))
    state.add_order_arguments(
        commands.add_parser("order", help="show an order and everything that happened to it")
    )
    strategies.add_arguments(
        commands.add_parser("strategies", help="show whose positions are whose")
    )
    book.add_arguments(commands.add_parser("book", help="read old fills into the book"))
    simulate = commands.add_parser(
        "simulate", help="run the embedded Alpaca alone, for tests and experiments"
    )
    simulate.add_argument(
        "--port", type=_port, default=8100, help="the port on 127.0.0.1; default 8100"
    )
    completion = commands.add_parser("completion", help="print a completion script for a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _add_version(parser: ArgumentParser) -> None:
    version = f"tradeproxy {tradeproxy.__version__}"
    parser.add_argument("--version", action="version", version=version)


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _serve(arguments: Namespace, rest: Sequence[str]) -> None:
    """Run the service under twistd, with the options that were parsed.

    twistd reports the `rest`, which argparse does not have.
    """
    from twisted.python.usage import UsageError
    from twisted.scripts import twistd

    from tradeproxy import logs

    command = arguments.command
    options = [f"--listen={description}" for description in arguments.listen]
    options += [
        f"--{name}={value}"
        for name, value in (("port", arguments.port), ("env-file", arguments.env_file))
        if value is not None
    ]
    if command == "demo" or arguments.demo:
        options.append("--demo")
    config: Any = twistd.ServerOptions()  # type: ignore[attr-defined]  # defined per platform
    try:
        config.parseOptions(["--nodaemon", "--pidfile=", "tradeproxy", *options, *rest])
    except UsageError as error:
        raise SystemExit(
            f"tradeproxy {command}: {error};"
            f" `{name_command(f'{command} --help')}` lists the options"
        ) from None
    levels = LogLevelFilterPredicate()
    config["logger"] = partial(logs.observer, config.subOptions.settings.log, sys.stdout, levels)
    config.subOptions.set_log_level = partial(logs.set_level, levels)
    twistd.runApp(config)


def _simulate(port: int) -> None:
    from tradeproxy import logs
    from tradeproxy.runtime.reactor import get_reactor, use_monotonic_clock
    from tradeproxy.runtime.stop_signals import watch_stop_signals
    from tradeproxy.simulator.service import Simulator, SimulatorService

    reactor = get_reactor()
    use_monotonic_clock(reactor)
    watch_stop_signals(reactor)
    description = endpoints.describe_tcp("127.0.0.1", port)
    if problems := endpoints.find_bind_problems((description,)):
        raise SystemExit("\n".join(problems))
    globalLogBeginner.beginLoggingTo([logs.environment_observer()])
    simulator = Simulator(reactor, SystemRandom(), account_id=SIMULATED_ACCOUNT)
    service = SimulatorService(simulator, description, reactor)

    async def serve(reactor: Reactor) -> None:
        service.startService()
        # Named, because this module's name is another one with `python -m`.
        log = Logger("tradeproxy.__main__")
        log.info("simulating Alpaca: ALPACA_URL={url}", url=endpoints.format_url(description))
        reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        await Deferred()

    task.react(serve)


def _check(env_file: str | None) -> None:
    try:
        settings = read_settings(os.environ, directory=Path.cwd(), env_file=env_file)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    from tradeproxy.cli.check import check_client_token, check_settings

    env = Environment.read(os.environ, Path.cwd(), env_file)
    results = [
        *check_settings(settings),
        *check_client_token(settings, proxy.read_token(env, None)),
    ]
    results += run_coroutine(lambda reactor: _check_connections(settings, reactor))
    print("\n".join(result.line for result in results))
    if not all(result.ok for result in results):
        raise SystemExit(1)


async def _check_connections(settings: Settings, reactor: Reactor) -> list[CheckResult]:
    from tradeproxy.cli.check import check_login, check_redis

    results = [] if settings.redis is None else [await check_redis(settings.redis, reactor)]
    return results + [
        await check_login(account, reactor, settings.connect_proxy) for account in settings.accounts
    ]


if __name__ == "__main__":
    main()
