"""The `tradeproxy` command: run, demo, simulate, check. To serve for good, use `twistd tradeproxy`."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver

from tradeproxy import listen
from tradeproxy.settings import SettingsError, parse_port, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tradeproxy.settings import Settings


SIMULATED_ACCOUNT = "00000000-0000-4000-8000-000000000000"
"""The same at every start: else each would be another account, with a journal of its own."""


def main() -> None:
    """Run the command line; what is wrong with it or with the settings is a line each, and status 1."""
    parser = _parser()
    arguments, rest = parser.parse_known_args()
    match arguments.command:
        case "run":
            _serve(rest)
        case "demo":
            _serve(["--demo", *rest])
        case _ if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        case "simulate":
            _simulate(arguments.port)
        case "check":
            _check(arguments.env_file)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="tradeproxy", description="One Alpaca trade-updates stream for all your clients."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="serve; options as `twistd tradeproxy` has them", add_help=False)
    commands.add_parser("demo", help="serve an embedded Alpaca with random orders", add_help=False)
    simulate = commands.add_parser(
        "simulate", help="run the embedded Alpaca alone, to try and test things on"
    )
    simulate.add_argument("--port", type=_port, default=8100, help="on 127.0.0.1; default 8100")
    check = commands.add_parser(
        "check", help="read the settings, try each account's login, say what is wrong"
    )
    check.add_argument("--env-file", help="the file to read instead of .env")
    return parser


def _version() -> str:
    try:
        return version("tradeproxy")
    except PackageNotFoundError:
        return "of a checkout that is not installed"


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _serve(options: Sequence[str]) -> None:
    from twisted.scripts import twistd

    sys.argv = ["twistd", "--nodaemon", "--pidfile=", "tradeproxy", *options]
    twistd.run()


def _simulate(port: int) -> None:
    from twisted.internet import reactor

    from tradeproxy.simulator.service import Simulator, SimulatorService

    description = listen.describe("127.0.0.1", port)
    if problems := listen.bind_problems((description,)):
        raise SystemExit("\n".join(problems))
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    simulator = Simulator(reactor, SystemRandom(), account_id=SIMULATED_ACCOUNT)
    service = SimulatorService(simulator, description, reactor)

    async def serve(reactor: Any) -> None:
        service.startService()
        print(f"an Alpaca of our own: ALPACA_URL={listen.url(description)}")
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
    from tradeproxy.check import check_login, check_settings

    findings = list(check_settings(settings))
    findings += [await check_login(account, reactor) for account in settings.accounts]
    print("\n".join(finding.line for finding in findings))
    if not all(finding.well for finding in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
