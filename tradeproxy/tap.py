"""The twistd plugin: its options, and the service that it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from twisted.application.service import IService
from twisted.python import usage

from tradeproxy.config import endpoints
from tradeproxy.config.logging import Level
from tradeproxy.config.settings import Settings, SettingsError
from tradeproxy.config.source import SettingsSource
from tradeproxy.journal.access import find_access_warnings
from tradeproxy.journal.file import check_journal, describe_os_error, find_problem
from tradeproxy.logs import LogThrottleService
from tradeproxy.reload.reload import ignore_level
from tradeproxy.runtime import rlimits
from tradeproxy.runtime.reactor import drop_log_context, get_reactor, use_monotonic_clock
from tradeproxy.runtime.signals import stop_on_hangup
from tradeproxy.runtime.socket_limit import SocketLimit
from tradeproxy.runtime.stop_signals import shorten_stop, watch_stop_signals
from tradeproxy.runtime.systemd import build_notifier
from tradeproxy.runtime.umask import keep_files_private


class Options(usage.Options):
    """The options of `twistd tradeproxy`.

    None of them is a secret, because the process list shows them.
    """

    synopsis = "[options]"
    longdesc = (
        "Keeps one trade-updates connection per Alpaca account and serves any number of clients. "
        "Accounts, tokens and limits are set in the environment or in .env; see .env.example."
    )
    optParameters = [
        ["port", "p", None, "The port to listen on, instead of PROXY_PORT."],
        ["env-file", "e", None, "The file to read instead of .env."],
    ]
    optFlags = [
        ["demo", None, "Serve an embedded Alpaca with random orders; no account is needed or used."]
    ]

    settings: Settings
    source: SettingsSource
    set_log_level: Callable[[Level], None] = staticmethod(ignore_level)
    """Sets the lowest level of the log, for a reload. `tradeproxy run` replaces it."""

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, description: str) -> None:
        """A Twisted endpoint to listen on instead of PROXY_LISTEN; repeatable."""  # noqa: D401
        self["listen"].append(description)

    opt_l = opt_listen

    def parseArgs(self, *words: str) -> None:
        """Accept no positional arguments; raises UsageError."""
        if words:
            raise usage.UsageError(f"unexpected words: {' '.join(words)}")

    def postOptions(self) -> None:
        """Read the settings.

        A problem in the settings, addresses, journals or twistd's own files ends the process here:
        SystemExit with one line for each problem, status 1. Later it would be a traceback, or only
        in a log file.
        """
        unprotected = rlimits.forbid_core_dumps()  # before .env with its keys is read
        self.source = SettingsSource(
            dict(os.environ),
            directory=Path.cwd(),
            env_file=self["env-file"],
            port=self["port"],
            listen=tuple(self["listen"]),
            demo=bool(self["demo"]),
        )
        try:
            self.settings = self.source.read()
        except SettingsError as error:
            raise SystemExit(str(error)) from None
        problems = [*self._address_problems(), *journal_problems(self.settings)]
        problems += self._twistd_problems()
        if problems:
            raise SystemExit("\n".join(problems))
        self._warn(*journal_warnings(self.settings))
        if self.settings.core_dumps:
            rlimits.restore_core_dumps()
        elif unprotected is not None:
            self._warn(unprotected)

    def _warn(self, *warnings: str) -> None:
        self.settings = replace(self.settings, warnings=(*self.settings.warnings, *warnings))

    def _address_problems(self) -> list[str]:
        """Return a line for each address that cannot be bound, with the setting that changes it."""
        ports = [account.base_url.port for account in self.settings.accounts if self.settings.demo]
        simulated = [endpoints.describe_tcp("127.0.0.1", port) for port in ports]
        addresses = [*self.settings.listen, *simulated]
        problems = endpoints.find_bind_problems(addresses, reuse_port=self.settings.reuse_port)
        by_port = self.settings.listen_source == "PROXY_HOST"
        chosen = "PROXY_PORT or --port" if by_port else "PROXY_LISTEN or --listen"
        of_simulator = tuple(f"127.0.0.1:{port} " for port in ports)
        beside = (
            "the embedded Alpaca takes the two ports after the proxy's, "
            "which PROXY_PORT or --port chooses"
        )
        another = f"{chosen} chooses another"
        return [
            f"{problem}: {beside if problem.startswith(of_simulator) else another}"
            for problem in problems
        ]

    def _twistd_problems(self) -> list[str]:
        """Return a line for each file of twistd itself that it could not create."""
        twistd = getattr(self, "parent", None) or {}
        # A log may be empty: on a full disk the proxy runs without it. A pidfile has a number.
        files = {"pidfile": len(str(os.getpid())), "logfile": 0}
        named = [
            (option, Path(twistd.get("rundir") or ".", twistd[option]), size)
            for option, size in files.items()
            if twistd.get(option) not in (None, "", "-")
        ]
        return [
            f"--{option} {path}: {describe_os_error(problem, path)}"
            for option, path, size in named
            if not path.exists() and (problem := find_problem(path, size)) is not None
        ]


def journal_problems(settings: Settings) -> list[str]:
    """Return a line for each account's journal that could not be opened. Opens none."""
    paths = (settings.journal.path(account.name) for account in settings.accounts)
    problems = (check_journal(path) for path in paths if path is not None)
    return [f"{settings.journal.source}: {problem}" for problem in problems if problem is not None]


def journal_warnings(settings: Settings) -> list[str]:
    """Return a line for each directory and file of the journals that its group can write."""
    paths = (settings.journal.path(account.name) for account in settings.accounts)
    warnings = (line for path in paths if path is not None for line in find_access_warnings(path))
    return [f"{settings.journal.source}: {line}" for line in dict.fromkeys(warnings)]


def makeService(options: Options) -> IService:
    """Build the service. Opens nothing, because twistd forks later, and opens its log."""
    from tradeproxy.service import OrderedService, build_service
    from tradeproxy.upstream.resolver import DaemonResolver

    # This installs a reactor. It waits until twistd has installed the chosen one.
    reactor = get_reactor()
    use_monotonic_clock(reactor)
    drop_log_context()
    keep_files_private(getattr(options, "parent", None) or {})
    settings = options.settings
    clients, reserve = settings.limits.max_clients, rlimits.reserve_for(len(settings.accounts))
    if warning := rlimits.raise_file_limit(
        clients, SocketLimit(clients, outgoing=settings.rest).sockets, reserve
    ):
        settings = replace(settings, warnings=(*settings.warnings, warning))
    stop_on_hangup(reactor)
    reactor.installNameResolver(DaemonResolver(reactor))
    sockets = SocketLimit(clients, rlimits.count_free_files(reserve), outgoing=settings.rest)
    proxy = OrderedService()
    LogThrottleService(reactor.callWhenRunning).setServiceParent(proxy)
    service = build_service(settings, reactor, sockets, options.source, options.set_log_level)
    service.setServiceParent(proxy)
    watch_stop_signals(reactor, partial(shorten_stop, proxy))
    notifier = build_notifier(os.environ, os.getpid(), reactor)
    if notifier is not None:
        notifier.setServiceParent(proxy)
    return proxy
