"""All webhooks of the proxy: starts, stops and replaces them, and stores where they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from tradeproxy.config.connect_proxy import ConnectProxy
from tradeproxy.config.webhooks import AppriseUrl, WebhookSettings
from tradeproxy.hub.account import Account
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.webhooks.apprise_sender import AppriseSender
from tradeproxy.webhooks.delivery import Delivery, may_send
from tradeproxy.webhooks.positions import (
    StoredPosition,
    count_events_after,
    read_positions,
    store_positions,
)
from tradeproxy.webhooks.sender import HttpSender, Sender
from tradeproxy.webhooks.state import DeliveryState, DeliveryStats
from tradeproxy.wire.plural import plural_ending

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the accounts. The positions are stored as often, if they changed."""


class Webhooks(Service):
    """The webhooks. It starts after the upstream and stops before it.

    With several nodes the upstream's stop releases the lease, and no position is stored after that.
    """

    _log = Logger()

    def __init__(
        self,
        settings: Sequence[WebhookSettings],
        accounts: Mapping[str, Account],
        build_sender: Callable[[WebhookSettings], Sender],
        node: str,
        clock: IReactorTime,
        random: Callable[[], float],
    ) -> None:
        """Send nothing before the start.

        Args:
            settings: the webhooks.
            accounts: the accounts by name.
            build_sender: returns the sender of a webhook.
            node: identifies this process.
            clock: timers.
            random: returns floats from 0 to 1.
        """
        self.settings = tuple(settings)
        self._accounts = accounts
        self._build_sender = build_sender
        self._node = node
        self._clock = clock
        self._random = random
        self._deliveries: list[Delivery] = []
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def list_stats(self) -> list[DeliveryStats]:
        """Return the state of every webhook and account."""
        return [delivery.stats for delivery in self._deliveries]

    def startService(self) -> None:
        """Begin to send."""
        super().startService()
        self._deliveries = []
        for webhook in self.settings:
            self._start(webhook, {})
        self._store(is_complete=True)
        self._look_if_needed()

    def stopService(self) -> Deferred[Any]:
        """Store the positions and end. Requests in flight are cut off, and sent again later."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        self._store_last()
        return self._stop(self._deliveries)

    def replace(self, settings: Sequence[WebhookSettings]) -> bool:
        """Run with these settings from now on; return whether something has changed.

        A webhook that has stopped is started again. One whose settings are the same is left alone.
        """
        self._store_last()
        is_changed = tuple(settings) != self.settings
        kept = [
            delivery
            for delivery in self._deliveries
            if delivery.webhook in settings and not self._has_stopped(delivery.webhook.name)
        ]
        ended = [delivery for delivery in self._deliveries if delivery not in kept]
        self._stop(ended)
        self._deliveries = kept
        self.settings = tuple(settings)
        running = {delivery.webhook.name for delivery in kept}
        stats = {
            (delivery.webhook.name, delivery.webhook.format, delivery.account.name): delivery.stats
            for delivery in ended
        }
        for webhook in settings:
            if webhook.name not in running:
                self._start(webhook, stats)
        self._store(is_complete=True)
        self._look_if_needed()
        return is_changed or bool(ended)

    def _has_stopped(self, name: str) -> bool:
        return any(
            delivery.stats.state is DeliveryState.STOPPED
            for delivery in self._deliveries
            if delivery.webhook.name == name
        )

    def _start(self, webhook: WebhookSettings, stats: Mapping[Any, DeliveryStats]) -> None:
        for account in self._accounts.values():
            if not webhook.is_for(account.name):
                continue
            delivery = Delivery(
                webhook,
                account,
                self._build_sender(webhook),
                self._node,
                self._clock,
                self._random,
                partial(self._stop_webhook, webhook.name),
                stats.get((webhook.name, webhook.format, account.name)),
            )
            self._deliveries.append(delivery)
            delivery.start(partial(_read_position, account, webhook.name))

    def _stop(self, deliveries: Sequence[Delivery]) -> Deferred[Any]:
        ended = [delivery.stop() for delivery in deliveries]
        return gatherResults([each for each in ended if each is not None])

    def _stop_webhook(self, name: str, reason: str) -> None:
        """Stop a webhook for all accounts: one URL serves them."""
        self._log.error(
            "webhook {webhook}: stopped: {reason}; correct PROXY_WEBHOOK_{webhook}_URL, then reload"
            " or restart",
            webhook=name,
            reason=reason,
        )
        for delivery in self._deliveries:
            if delivery.webhook.name == name:
                delivery.stop_for(reason)

    def _look_if_needed(self) -> None:
        """Look after the webhooks regularly, if there are any: an idle process sleeps."""
        if self._looking.running:
            self._looking.stop()
        if self.settings:
            self._looking.start(LOOK_INTERVAL, now=False).addErrback(
                lambda failure: self._log.failure(
                    "the webhooks are no longer looked after", failure
                )
            )

    def _look(self) -> None:
        # Account by account: the webhooks of one share what is read of an event.
        for account in self._accounts.values():
            for delivery in self._deliveries:
                if delivery.account is account:
                    delivery.look()
        self._store()

    def _store_last(self) -> None:
        """Store every position: other settings may want events that these have passed over."""
        for delivery in self._deliveries:
            delivery.finish()
        self._store()

    def _store(self, *, is_complete: bool = False) -> None:
        """Store the positions that have changed.

        With `is_complete`, mark those of webhooks that are no longer in the settings.
        """
        for account in self._accounts.values():
            known = [each.name for each in self.settings if each.is_for(account.name)]
            positions: dict[str, StoredPosition] = {}
            for delivery in self._deliveries:
                if delivery.account is account and (position := delivery.take_position()):
                    positions[delivery.webhook.name] = position
            if positions or (is_complete and may_send(account)):
                for name, position in store_positions(account, positions, known).items():
                    self._warn_of_unsent(account, name, position)

    def _warn_of_unsent(self, account: Account, name: str, position: StoredPosition) -> None:
        if count := count_events_after(account, position):
            self._log.warn(
                "webhook {webhook}: {account}: no longer in the settings, with up to {count}"
                " event{s} unsent; if it returns within a day, it continues with them",
                webhook=name,
                account=account.name,
                count=count,
                s=plural_ending(count),
            )


def _read_position(account: Account, name: str) -> StoredPosition | None:
    position = read_positions(account).get(name)
    return None if position is None else replace(position, removed=None)


def build_sender(
    webhook: WebhookSettings,
    reactor: Reactor,
    proxy: ConnectProxy | None,
    wall_clock: Callable[[], float],
) -> Sender:
    """Return the sender of a webhook.

    Args:
        webhook: its URL, and its rule for addresses.
        reactor: connects, resolves names and schedules the timeouts.
        proxy: the HTTP proxy for connections with TLS, or None.
        wall_clock: Unix time in seconds.
    """
    if isinstance(webhook.url, AppriseUrl):
        return AppriseSender(webhook.url.text, reactor)
    return HttpSender(webhook.url, webhook.allow_http, reactor, proxy, wall_clock)
