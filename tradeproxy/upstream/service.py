"""The service that keeps one account connected to Alpaca."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tradeproxy.hub.account import ANOTHER_ACCOUNT, INTERNAL_ERROR, Account
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.runtime.connect_errors import describe_connect_error
from tradeproxy.upstream.backoff import Backoff, Disconnect, DisconnectCause
from tradeproxy.upstream.client import UpstreamFactory, UpstreamProtocol
from tradeproxy.upstream.session import StreamListener


class UpstreamService(Service):
    """Connects one account to Alpaca, and reconnects after every disconnect.

    Twisted's ClientService does not fit, for two reasons. It counts a TCP connection as a success;
    here the delay and the logged reason depend on how far the session got. And its stop drops the
    connection; Alpaca must get a close frame first, because a half-closed connection occupies the
    account's only slot for about 90 s.
    """

    def __init__(
        self,
        account: Account,
        endpoint: IStreamClientEndpoint,
        factory: UpstreamFactory,
        listener: StreamListener,
        backoff: Backoff,
        clock: IReactorTime,
    ) -> None:
        """Create the service; `startService` connects.

        Args:
            account: gets the events and the upstream status.
            endpoint: the address of the stream.
            factory: builds an UpstreamProtocol for each connection.
            listener: its `stop` is called when no connection follows. The factory's protocols
                call the rest of it.
            backoff: computes the delay before each attempt, in seconds.
            clock: schedules the delays.
        """
        self._account = account
        self._log = AccountLogger(self, account.name)
        self._endpoint = endpoint
        self._factory = factory
        self._listener = listener
        self._backoff = backoff
        self._clock = clock
        self._protocol: UpstreamProtocol | None = None
        self._running: Deferred[None] | None = None
        self._keys = factory.keys
        self._keys.on_change = self._end_wait
        account.on_another_account = self._leave_old_account
        self._tried = self._keys.credentials
        self._next_attempt: IDelayedCall | None = None
        self._waits = True
        listener.reopen = self.reopen

    def startService(self) -> None:
        """Start to connect."""
        super().startService()
        self._running = Deferred.fromCoroutine(self._keep_connected())
        self._running.addErrback(self._failed)

    def stopService(self) -> Deferred[None] | None:
        """Send a close frame and stop; fire when the connection is closed.

        That takes at most client.CLOSE_TIMEOUT seconds.
        """
        super().stopService()
        if self._protocol is not None:
            self._protocol.close()
            if not self._waits:
                self._protocol.abort()
        elif self._running is not None:
            self._running.cancel()
        return self._running

    def shorten_stop(self) -> None:
        """Drop the connection at the stop without waiting for Alpaca's close frame."""
        self._waits = False
        if self._protocol is not None and not self.running:
            self._protocol.abort()

    def reopen(self, reason: str) -> None:
        """Close the stream cleanly and connect again at once. Has no effect while it is down."""
        if self._protocol is not None:
            self._protocol.reopen(reason)

    async def _keep_connected(self) -> None:
        try:
            while True:
                disconnect = await self._run_session()
                if not self.running:
                    break
                delay = self._report(disconnect)
                await self._wait(delay, is_refused=disconnect.cause is DisconnectCause.REFUSED)
        except CancelledError:
            pass  # by stopService, while no connection existed
        self._listener.stop()
        self._account.mark_upstream_down("stopped")

    async def _wait(self, delay: float, *, is_refused: bool) -> None:
        self._account.next_attempt = self._account.dates.own() + delay
        try:
            if is_refused:
                await self._wait_for_keys(delay)
            else:
                await deferLater(self._clock, delay)
        finally:
            self._account.next_attempt = None

    async def _wait_for_keys(self, delay: float) -> None:
        """Wait for `delay` seconds, or until a reload replaces the keys; then read them again."""
        ended: Deferred[None] = Deferred(lambda _: call.cancel())
        self._next_attempt = call = self._clock.callLater(delay, ended.callback, None)
        await ended
        self._keys.have_replaced(self._tried)

    def _end_wait(self) -> None:
        if self._next_attempt is not None and self._next_attempt.active():
            self._next_attempt.reset(0)

    def _leave_old_account(self) -> None:
        """Open the stream again if its keys were replaced: requests already have the new ones."""
        if self._tried != self._keys.credentials:
            # In a turn of its own: the end of the connection cancels the request that found it.
            self._clock.callLater(0, self.reopen, ANOTHER_ACCOUNT)

    async def _run_session(self) -> Disconnect:
        self._tried = self._keys.credentials
        try:
            protocol = await self._endpoint.connect(self._factory)
        except CancelledError:  # by stopService; it is not a failed attempt
            raise
        except Exception as error:
            return Disconnect(
                DisconnectCause.LOST, f"cannot connect: {describe_connect_error(error)}"
            )
        assert isinstance(protocol, UpstreamProtocol)
        self._protocol = protocol
        disconnect = await protocol.disconnected
        self._protocol = None  # from here on, stopService cancels the delay instead
        return disconnect

    def _report(self, disconnect: Disconnect) -> float:
        """Log and publish a disconnect; return the delay before the next attempt, in seconds.

        After a refusal the delay is 0 if the settings have other keys now. An error of the
        publication must not end the attempts to reach Alpaca.
        """
        is_refused = disconnect.cause is DisconnectCause.REFUSED
        has_new_keys = is_refused and self._keys.have_replaced(self._tried)
        delay = 0.0 if has_new_keys else self._backoff.delay_after(disconnect)
        self._account.reconnect_reasons[disconnect.reconnect_reason] += 1
        try:
            self._account.mark_upstream_down(disconnect.reason)
        except Exception:
            self._log.failure("the status of the upstream could not be published")
        if disconnect.quote:
            self._log.warn("Alpaca's reply to the login: {quote}", quote=disconnect.quote)
        self._log.warn(
            "upstream is down: {reason}; next attempt in {delay:.1f} s",
            reason=disconnect.reason,
            delay=delay,
        )
        return delay

    def _failed(self, failure: Failure) -> None:
        self._log.failure("the upstream service failed", failure)
        self._listener.stop()
        self._account.has_failed = True  # /healthz answers 503, since only a restart helps
        self._account.mark_upstream_down(INTERNAL_ERROR)
