"""The service that keeps one account connected to Alpaca."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.upstream.backoff import Backoff, Disconnect, DisconnectCause
from tradeproxy.upstream.client import UpstreamFactory, UpstreamProtocol

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from tradeproxy.hub.account import Account
    from tradeproxy.upstream.session import StreamListener


class UpstreamService(Service):
    """Keeps one account's connection to Alpaca: connects, and connects again however a session ends.

    Twisted's ClientService is not used: it takes a TCP connection for success, where here the delay, and
    the log line that gives its reason, depend on how far the conversation came; and its stop drops the
    connection, where Alpaca must get a close frame first (a half-closed connection holds the account's
    only slot for about 90 s).
    """

    _log = Logger()

    def __init__(
        self,
        account: Account,
        endpoint: IStreamClientEndpoint,
        factory: UpstreamFactory,
        watcher: StreamListener,
        backoff: Backoff,
        clock: IReactorTime,
    ) -> None:
        self._account = account
        self._endpoint = endpoint
        self._factory = factory
        self._listener = watcher
        self._backoff = backoff
        self._clock = clock
        self._protocol: UpstreamProtocol | None = None
        self._running: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin to connect."""
        super().startService()
        self._running = Deferred.fromCoroutine(self._keep_connected())
        self._running.addErrback(self._failed)

    def stopService(self) -> Deferred[None] | None:
        """Stop for good; fires once Alpaca has had a close frame and the connection is gone.

        That takes GOODBYE_TIMEOUT at most.
        """
        super().stopService()
        if self._protocol is not None:
            self._protocol.close()
        elif self._running is not None:
            self._running.cancel()
        return self._running

    async def _keep_connected(self) -> None:
        try:
            while True:
                ending = await self._one_session()
                if not self.running:
                    break
                await deferLater(self._clock, self._report(ending))
        except CancelledError:
            pass  # stopService's, while there was no connection
        self._listener.stop()
        self._account.mark_upstream_down("stopped")

    async def _one_session(self) -> Disconnect:
        try:
            protocol = await self._endpoint.connect(self._factory)
        except CancelledError:
            raise
        except Exception as error:
            return Disconnect(DisconnectCause.LOST, f"cannot connect: {error}")
        assert isinstance(protocol, UpstreamProtocol)
        self._protocol = protocol
        ending = await protocol.disconnected
        self._protocol = None
        return ending

    def _report(self, ending: Disconnect) -> float:
        delay = self._backoff.delay_after(ending)
        self._account.reconnect_reasons[ending.reconnect_reason] += 1
        self._account.mark_upstream_down(ending.reason)
        self._log.warn(
            "{account}: upstream is down: {reason}; next attempt in {delay:.1f} s",
            account=self._account.name,
            reason=ending.reason,
            delay=delay,
        )
        return delay

    def _failed(self, failure: Failure) -> None:
        self._log.failure(
            "{account}: the upstream service failed", failure, account=self._account.name
        )
        self._listener.stop()
        self._account.has_failed = True
        self._account.mark_upstream_down(INTERNAL_ERROR)
