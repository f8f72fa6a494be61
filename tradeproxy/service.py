"""The whole proxy as a tree of services, built from its settings."""

from __future__ import annotations

import os
import time
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, TypeVar

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from tradeproxy.book.book import Book
from tradeproxy.book.old_documents import OldDocuments
from tradeproxy.config import endpoints
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.clients import Clients, DownstreamService
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import JournalError
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.book_import import BookImport
from tradeproxy.recovery.recovery import Recovery
from tradeproxy.reload.reload import Reload, ReloadTargets
from tradeproxy.runtime import reuseport
from tradeproxy.runtime.dates import Dates
from tradeproxy.runtime.gc_service import GcService
from tradeproxy.runtime.signals import HangupService
from tradeproxy.tradelog.day_files import DayFiles
from tradeproxy.tradelog.lines import LineFormat
from tradeproxy.tradelog.service import TradeLogService
from tradeproxy.upstream.backoff import Backoff
from tradeproxy.upstream.client import UpstreamFactory, upstream_endpoint
from tradeproxy.upstream.http import build_agent
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.rest import RestClient
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.web.request_info import TrustedProxies
from tradeproxy.web.rest_proxy import RestProxy
from tradeproxy.web.routes import find_path
from tradeproxy.web.site import build_site
from tradeproxy.webhooks.service import Webhooks, build_sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.web.iweb import IAgent

    from tradeproxy.cluster.node import Node
    from tradeproxy.config.accounts import AccountSettings
    from tradeproxy.config.logging import Level
    from tradeproxy.config.settings import Settings
    from tradeproxy.config.source import SettingsSource
    from tradeproxy.config.storage import JournalSettings
    from tradeproxy.config.trade_log import TradeLogSettings
    from tradeproxy.journal.base import Journal
    from tradeproxy.runtime.reactor import Reactor
    from tradeproxy.runtime.socket_limit import SocketLimit

_T = TypeVar("_T")


def build_service(
    settings: Settings,
    reactor: Reactor,
    sockets: SocketLimit,
    source: SettingsSource,
    set_log_level: Callable[[Level], None],
) -> MultiService:
    """Return the service that keeps one connection per account and serves its events to clients.

    Services start in the order in which they are added here, and stop in reverse, one at a time.
    The stop closes the listeners, then the clients, then the webhooks, then Alpaca's streams, then
    the journals.

    Args:
        settings: the accounts, the addresses and the limits.
        reactor: sockets, timers and intervals; see runtime.reactor.use_monotonic_clock.
        sockets: the limit of sockets.
        source: reads the settings again, for a reload or a refused login.
        set_log_level: sets the lowest level of the log, for a reload.
    """
    node = _node(settings, reactor)
    accounts = {
        account.name: Account(
            account.name,
            _journal(account, settings.journal, node, reactor, Dates(reactor.seconds, time.time)),
            reactor,
        )
        for account in settings.accounts
    }
    old = OldDocuments(reactor)
    books = {
        name: Book(each, reactor, rule=settings.strategies, old=old)
        for name, each in accounts.items()
        if settings.book
    }
    clients = DownstreamFactory(settings.limits, reactor, sockets, books)
    tokens = Tokens(settings.tokens)
    admission = Admission(settings.allowed_hosts, settings.allowed_origins, tokens)
    agent = build_agent(reactor, settings.connect_proxy)
    passthrough = _passthrough(settings, agent, clients.clients, reactor) if settings.rest else None
    trusted = TrustedProxies(settings.trusted_proxies)
    webhooks = Webhooks(
        settings.webhooks,
        accounts,
        lambda webhook: build_sender(webhook, reactor, settings.connect_proxy, time.time),
        os.urandom(8).hex(),
        reactor,
        SystemRandom().random,
    )
    site = build_site(
        accounts, clients, admission, reactor, time.time, passthrough, trusted, webhooks.list_stats
    )

    proxy = OrderedService()
    proxy.setName("tradeproxy")
    for account in settings.accounts if settings.demo else ():
        _simulator_service(account, reactor).setServiceParent(proxy)
    JournalService(accounts.values()).setServiceParent(proxy)
    BookService(books.values()).setServiceParent(proxy)
    if settings.trade_log is not None:
        _trade_logs(settings.trade_log, accounts.values(), reactor).setServiceParent(proxy)
    upstream = MultiService()
    upstream.setServiceParent(proxy)
    keys = [AccountKeys(account, source.read_accounts_again) for account in settings.accounts]
    for account, own_keys in zip(settings.accounts, keys, strict=True):
        own = accounts[account.name]
        rest = RestClient(agent, account.base_url.rest, own_keys, reactor, own.dates)
        if (book := books.get(account.name)) is not None:
            book.importer = BookImport(book, rest, reactor)
        make = partial(_upstream_service, own_keys, own, rest, settings, reactor, book)
        service = make() if node is None else node.leadership(own, make)
        service.setServiceParent(upstream)
    webhooks.setServiceParent(proxy)
    DownstreamService(clients.clients, reactor).setServiceParent(proxy)
    for description in settings.listen:
        listener = reuseport.build_listener(description, site, reactor, settings.reuse_port)
        listener.setServiceParent(proxy)
    StartupLog(settings).setServiceParent(proxy)
    targets = ReloadTargets(
        tokens,
        clients.clients,
        admission,
        None if passthrough is None else passthrough.admission,
        keys,
        set_log_level,
        webhooks,
    )
    reload = Reload(settings, source.read_again, targets)
    HangupService(reactor, reload.run).setServiceParent(proxy)
    logs = [account.log for account in accounts.values()]
    GcService(lambda: sum(log.last for log in logs), reactor).setServiceParent(proxy)
    return proxy


def _node(settings: Settings, reactor: Reactor) -> Node | None:
    if settings.redis is None:
        return None
    # Its packages are an extra: a proxy without Redis does not install them.
    from tradeproxy.cluster.node import Node

    return Node(settings.redis, reactor)


def _journal(
    account: AccountSettings,
    settings: JournalSettings,
    node: Node | None,
    reactor: Reactor,
    dates: Dates,
) -> Journal:
    if node is not None:
        return node.journal(account.name, account.base_url.stream, settings, dates)
    return SqliteJournal(
        account.name,
        settings.path(account.name),
        reactor,
        dates,
        base_url=account.base_url.stream,
        full_sync=settings.full_sync,
        max_age=settings.max_age,
        max_events=settings.max_events,
        in_thread=partial(_call_in_thread, reactor),
    )


def _call_in_thread(reactor: Reactor, work: Callable[[], _T]) -> Deferred[_T]:
    return deferToThreadPool(reactor, reactor.getThreadPool(), work)


def _upstream_service(
    keys: AccountKeys,
    account: Account,
    rest: RestClient,
    settings: Settings,
    reactor: Reactor,
    book: Book | None,
) -> UpstreamService:
    recovery = Recovery(account, rest, settings.recovery, reactor, book)
    return UpstreamService(
        account,
        upstream_endpoint(keys.settings.base_url, reactor, settings.connect_proxy),
        UpstreamFactory(keys, account, recovery, reactor),
        recovery,
        Backoff(SystemRandom().random),
        reactor,
    )


def _trade_logs(
    settings: TradeLogSettings, accounts: Iterable[Account], reactor: Reactor
) -> MultiService:
    # A disk or a network file system may take seconds for a write.
    in_thread = partial(_call_in_thread, reactor)
    services = MultiService()
    for account in accounts:
        line_format = LineFormat(account.name, settings.format)
        files = DayFiles(settings.directory, account.name, line_format)
        service = TradeLogService(account, files, line_format, reactor, in_thread)
        service.setServiceParent(services)
    return services


def _passthrough(
    settings: Settings, agent: IAgent, clients: Clients, reactor: Reactor
) -> RestProxy:
    urls = {account.name: account.base_url.rest for account in settings.accounts}
    own_pages = Admission(settings.allowed_hosts, (), Tokens(()))
    return RestProxy(agent, urls, own_pages, clients, reactor)


def _simulator_service(account: AccountSettings, reactor: Reactor) -> Service:
    # Only the demo needs the simulator, so no other start imports it.
    from tradeproxy.simulator.demo import DemoService
    from tradeproxy.simulator.simulator import Simulator

    is_paper = account.name == "paper"
    simulator = Simulator(reactor, SystemRandom(), binary=is_paper)
    description = endpoints.describe_tcp("127.0.0.1", account.base_url.port)
    return DemoService(simulator, description, reactor, outage=is_paper)


class OrderedService(MultiService):
    """Starts its children in order and stops them in reverse, one at a time.

    MultiService stops all at once. That would cut off clients during their closing handshake.
    """

    _log = Logger()

    def stopService(self) -> Deferred[None]:
        """Stop every child, the last one first. Log a failure and stop the rest."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_in_order())

    async def _stop_in_order(self) -> None:
        for service in reversed(list(self)):
            try:
                await maybeDeferred(service.stopService)
            except Exception:
                self._log.failure("{service} did not stop cleanly", service=type(service).__name__)


class StartError(SystemExit, Exception):
    """Ends the process with one line and status 1.

    For Python it is a SystemExit, so there is no traceback. twistd removes its pidfile, and reports
    to the process that started the daemon, only after an Exception.
    """


class JournalService(Service):
    """Opens the journals before the services that use them, and closes them afterwards."""

    _log = Logger()

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts = tuple(accounts)

    def startService(self) -> None:
        """Open the journals. Raises StartError, whose text is a line for the user."""
        super().startService()
        for account in self._accounts:
            try:
                account.open()
            except JournalError as error:
                raise StartError(str(error)) from None

    def stopService(self) -> None:
        """Commit buffered events and close the journals. Log each failure."""
        super().stopService()
        for account in self._accounts:
            try:
                account.close()
            except Exception:
                self._log.failure(
                    "{account}: the journal did not close cleanly", account=account.name
                )
        self._log.info("stopped")


class BookService(Service):
    """Starts the books once the journals are open, and has them write their state at the stop."""

    _log = Logger()

    def __init__(self, books: Iterable[Book]) -> None:
        self._books = tuple(books)

    def startService(self) -> None:
        """Start the books. They read their logs in turns of the reactor to come."""
        super().startService()
        for book in self._books:
            book.start()

    def stopService(self) -> None:
        """Have the books apply what was committed, and write their state. Log each failure."""
        super().stopService()
        for book in self._books:
            try:
                book.stop()
            except Exception:
                self._log.failure(
                    "{account}: the book did not close cleanly", account=book.account.name
                )


class StartupLog(Service):
    """Logs the addresses and accounts once all services have started."""

    _log = Logger()

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Now: an inherited socket is closed, and replaced by a copy, once the proxy listens.
        self._urls = [endpoints.format_url(description) for description in settings.listen]

    def startService(self) -> None:
        """Log the settings' warnings, the addresses, and each account's endpoints."""
        super().startService()
        for warning in self._settings.warnings:
            self._log.warn("{warning}", warning=warning)
        for url in self._urls:
            self._log.info("listening on {url}", url=url)
        for account in self._settings.accounts:
            self._log.info(
                "{account}: {stream} relays {upstream}; {original} speaks the original protocol",
                account=account.name,
                stream=self._base() + find_path(account.name, "/stream"),
                upstream=account.base_url.stream,
                original=self._base() + find_path(account.name),
            )
        proxy = self._settings.connect_proxy
        for account in self._settings.accounts:
            if proxy and proxy.serves(account.base_url.host, account.base_url.port):
                self._log.info(
                    "{account}: Alpaca is reached through the HTTP proxy {proxy} ({source})",
                    account=account.name,
                    proxy=proxy.label,
                    source=proxy.source,
                )
        for webhook in self._settings.webhooks:
            self._log.info(
                "webhook {webhook}: {events} for {accounts}, as {form}",
                webhook=webhook.name,
                events=", ".join(sorted(webhook.events)),
                accounts=", ".join(sorted(webhook.accounts)) or "all accounts",
                form=webhook.format.value,
            )
        self._log.info("events are kept in {place}", place=self._settings.storage_label)
        if (trade_log := self._settings.trade_log) is not None:
            self._log.info("the trade log is in {place}", place=trade_log.directory)
        self._log.info(
            "the dashboard at {base}/, health at {base}/healthz and {base}/readyz, "
            "metrics at {base}/metrics",
            base=self._base("http"),
        )
        for account in self._settings.accounts:
            if self._settings.rest:
                self._log.info(
                    "{account}: its REST interface is passed through, at {url}/v2/",
                    account=account.name,
                    url=self._base("http") + find_path(account.name),
                )
            if self._settings.demo:
                self._log.info(
                    "{account}: an embedded Alpaca takes orders at {url}",
                    account=account.name,
                    url=account.base_url.rest,
                )

    def stopService(self) -> None:
        """Log that the stop begins. This service is the first one that stops."""
        super().stopService()
        self._log.info("stopping")

    def _base(self, scheme: str = "ws") -> str:
        """Return the base URL at the first address, or '' if it has no URL.

        `scheme` is "ws" or "http"; over TLS it gets an "s".
        """
        url = self._urls[0]
        return url.replace("http", scheme, 1) if url.startswith("http") else ""
