"""The `tradeproxy` command: run, demo, simulate, check, tail, export and completion.

`run` stays in the foreground. To run as a daemon, use `twistd tradeproxy`.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogBeginner

import tradeproxy
from tradeproxy.cli import export, tail
from tradeproxy.config import endpoints
from tradeproxy.config.addresses import parse_port
from tradeproxy.config.settings import SettingsError, read_settings
from tradeproxy.runtime.rlimits import forbid_core_dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tradeproxy.config.settings import Settings


SIMULATED_ACCOUNT = "00000000-0000-4000-8000-000000000000"
"""The account id of `tradeproxy simulate`.

It is constant: for a different id, a proxy begins a new epoch of its journal.
"""


def main() -> None:
    """Run the command line.

    Each problem with the settings, or with an option of `run` or `demo`, is one line on standard
    error, and the exit status is 1. For any other usage error, argparse prints the usage and
    exits with 2.
    """
    forbid_core_dumps()
    parser = _make_parser()
    arguments, rest = parser.parse_known_args()
    match arguments.command:
        case "run":
            _serve("run", rest)
        case "demo":
            _serve("demo", ["--demo", *rest])
        case _ if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        case "simulate":
            _simulate(arguments.port)
        case "check":
            _check(arguments.env_file)
        case "tail":
            tail.main(arguments)
        case "export":
            export.main(arguments)
        case "completion":
            print(_completion(arguments.shell))


def _make_parser(twistd_options: Sequence[str] = ()) -> ArgumentParser:
    """Return the parser.

    twistd parses the options of `run` and `demo`. `twistd_options` are here for completion only.
    """
    parser = ArgumentParser(
        prog="tradeproxy", description="One Alpaca trade-updates stream for all your clients."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {tradeproxy.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    run = commands.add_parser(
        "run", help="run the proxy; options as for `twistd tradeproxy`", add_help=False
    )
    demo = commands.add_parser(
        "demo", help="run the proxy with an embedded Alpaca and random orders", add_help=False
    )
    for option in twistd_options:
        run.add_argument(option)
        demo.add_argument(option)
    simulate = commands.add_parser(
        "simulate", help="run the embedded Alpaca alone, for tests and experiments"
    )
    simulate.add_argument(
        "--port", type=_port, default=8100, help="the port on 127.0.0.1; default 8100"
    )
    check = commands.add_parser("check", help="check the settings and each account's login")
    check.add_argument("--env-file", help="read this file instead of .env")
    tail.add_arguments(
        commands.add_parser("tail", help="follow an account's trade updates in the terminal")
    )
    export.add_arguments(
        commands.add_parser(
            "export", help="write a day's trades of an account as JSON lines or CSV"
        )
    )
    completion = commands.add_parser("completion", help="print a completion script for a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _completion(shell: str) -> str:
    import shtab

    from tradeproxy.tap import Options

    options = {f"--{name.rstrip('=')}" for name in Options().longOpt}
    parser = _make_parser(twistd_options=sorted(options - {"--version", "--help"}))
    return shtab.complete(parser, shell)


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _serve(command: str, options: Sequence[str]) -> None:
    from twisted.python.usage import UsageError
    from twisted.scripts import twistd

    from tradeproxy import logs

    config: Any = twistd.ServerOptions()  # type: ignore[attr-defined]  # defined per platform
    try:
        config.parseOptions(["--nodaemon", "--pidfile=", "tradeproxy", *options])
    except UsageError as error:
        raise SystemExit(
            f"tradeproxy {command}: {error}; `tradeproxy {command} --help` lists the options"
        ) from None
    config["logger"] = partial(logs.observer, config.subOptions.settings.log, sys.stdout)
    twistd.runApp(config)


def _simulate(port: int) -> None:
    from twisted.internet import reactor

    from tradeproxy import logs
    from tradeproxy.runtime.monotonic import use_monotonic_clock
    from tradeproxy.simulator.service import Simulator, SimulatorService

    use_monotonic_clock(reactor)
    description = endpoints.describe_tcp("127.0.0.1", port)
    if problems := endpoints.find_bind_problems((description,)):
        raise SystemExit("\n".join(problems))
    globalLogBeginner.beginLoggingTo([logs.environment_observer()])
    simulator = Simulator(reactor, SystemRandom(), account_id=SIMULATED_ACCOUNT)
    service = SimulatorService(simulator, description, reactor)

    async def serve(reactor: Any) -> None:
        service.startService()
        Logger().info("simulating Alpaca: ALPACA_URL={url}", url=endpoints.format_url(description))
        reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        await Deferred()

    task.react(lambda reactor: Deferred.fromCoroutine(serve(reactor)))


def _check(env_file: str | None) -> None:
    try:
        settings = read_settings(os.environ, directory=Path.cwd(), env_file=env_file)
    except SettingsError as error:
        raise SystemExit(str(error)) from None
    task.react(lambda reactor: Deferred.fromCoroutine(_print_checks(settings, reactor)))


async def _print_checks(settings: Settings, reactor: Any) -> None:
    from tradeproxy.cli.check import check_login, check_redis, check_settings
    from tradeproxy.runtime.monotonic import use_monotonic_clock

    use_monotonic_clock(reactor)
    results = list(check_settings(settings))
    if settings.redis is not None:
        results.append(await check_redis(settings.redis, reactor))
    results += [await check_login(account, reactor) for account in settings.accounts]
    print("\n".join(result.line for result in results))
    if not all(result.ok for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
