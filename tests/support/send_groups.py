"""Clients of one account over plain TCP, which form crowds."""

from __future__ import annotations

from typing import Any

import txaio
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import Connections, event, memory_journal
from tests.support.plain import Kernel, Peer
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.send_group import SendGroup
from tradeproxy.hub.account import Account
from tradeproxy.web.site import build_site

LISTEN_TO_STATUS = b'{"action":"listen","data":{"streams":["trade_updates","proxy_status"]}}'


class CrowdTestCase(SynchronousTestCase):
    """An account behind the site, and clients of it over plain TCP; it holds no test."""

    def setUp(self) -> None:
        self.kernel = Kernel()
        self.patch(txaio.config, "loop", self.kernel)  # type: ignore[attr-defined]  # set at run time
        self.disk = Connections()
        self.account = Account("paper", memory_journal(self.kernel, connect=self.disk), self.kernel)
        self.broadcaster = self.account.broadcaster
        self.factory = DownstreamFactory(Limits(), self.kernel)
        admission = Admission((), (), Tokens(()))
        self.site = build_site({"paper": self.account}, self.factory, admission, self.kernel)
        self.published: list[bytes] = []
        self.served: dict[Peer, Any] = {}

    def connect(self, path: str = "/trade-updates-paper") -> Peer:
        """Connect a client that has said nothing yet."""
        peer = Peer(self.kernel, self.site, path)
        self.served[peer] = list(self.factory.clients)[-1]
        return peer

    def peer(self) -> Peer:
        """Connect a client that is sent events."""
        return self.connect().subscribe()

    def crowded(self, count: int) -> list[Peer]:
        """Connect some clients, and let them be a crowd."""
        peers = [self.peer() for _ in range(count)]
        self.publish()
        for peer in peers:
            assert self.crowd_of(peer) is not None
        return peers

    def crowd_of(self, peer: Peer) -> SendGroup | None:
        """Return the crowd that a client is in."""
        found: SendGroup | None = self.served[peer].send_group
        return found

    def hand_in(self, count: int = 1, **fields: Any) -> None:
        """Bring new events, all of one turn."""
        for _ in range(count):
            fresh = event(len(self.published), **fields)
            self.published.append(fresh.payload)
            self.account.publish(fresh)

    def publish(self, count: int = 1, **fields: Any) -> None:
        """Bring new events, and take turns until there is nothing to do."""
        self.hand_in(count, **fields)
        self.kernel.settle()

    def assert_all_came(self, *peers: Peer, since: int = 0) -> None:
        """Assert that they have every event since that one, once and in order, and nothing else."""
        for peer in peers:
            self.assertEqual(peer.texts, self.published[since:])
