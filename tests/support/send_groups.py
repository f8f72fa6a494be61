"""Clients of one account over plain TCP, which form send groups."""

from __future__ import annotations

from typing import Any

import txaio
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import Connections, event, memory_journal
from tests.support.plain import Kernel, Peer
from tests.support.socket_limits import limit_sockets
from tradeproxy.config.settings import Limits
from tradeproxy.downstream import direct_write
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.direct_write import DirectWriter
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.send_group import SendGroup
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch
from tradeproxy.web.site import build_site

LISTEN_TO_STATUS = b'{"action":"listen","data":{"streams":["trade_updates","proxy_status"]}}'


class SendGroupTestCase(SynchronousTestCase):
    """An account behind the site, and its clients over plain TCP; it has no test."""

    def setUp(self) -> None:
        self.kernel = Kernel()
        module: Any = txaio  # `config` is set at run time
        self.patch(module.config, "loop", self.kernel)
        self.disk = Connections()
        self.account = Account("paper", memory_journal(self.kernel, connect=self.disk), self.kernel)
        self.broadcaster = self.account.broadcaster
        self.factory = DownstreamFactory(Limits(), self.kernel, limit_sockets())
        admission = Admission((), (), Tokens(()))
        self.site = build_site(
            {"paper": self.account}, self.factory, admission, self.kernel, self.kernel.seconds
        )
        self.published: list[bytes] = []
        self.served: dict[Peer, Any] = {}

    def connect(self, path: str = "/trade-updates-paper") -> Peer:
        """Connect a client that is not authenticated yet."""
        peer = Peer(self.kernel, self.site, path)
        self.served[peer] = list(self.factory.clients)[-1]
        return peer

    def peer(self) -> Peer:
        """Connect a client that gets events."""
        return self.connect().subscribe()

    def form_group(self, count: int) -> list[Peer]:
        """Connect some clients, and publish an event so that they join a group."""
        peers = [self.peer() for _ in range(count)]
        self.publish()
        for peer in peers:
            assert self.find_group(peer) is not None
        return peers

    def find_group(self, peer: Peer) -> SendGroup | None:
        """Return the send group of a client, if it is in one."""
        group: SendGroup | None = self.served[peer].send_group
        return group

    def publish_without_turn(self, count: int = 1, **fields: Any) -> None:
        """Publish new events in one turn of the reactor."""
        for _ in range(count):
            new_event = event(len(self.published), **fields)
            self.published.append(new_event.payload)
            self.account.publish(new_event)

    def publish(self, count: int = 1, **fields: Any) -> None:
        """Publish new events, and run turns until nothing is due."""
        self.publish_without_turn(count, **fields)
        self.kernel.settle()

    def assert_all_received(self, *peers: Peer, since: int = 0) -> None:
        """Assert that they got every event after the first `since`, once, in order, and no more."""
        for peer in peers:
            self.assertEqual(peer.texts, self.published[since:])


class FakeMember:
    """A caught-up member, which can fail when it leaves its group.

    Its socket takes all bytes of a write, or the first `takes`.
    """

    size = 1

    def __init__(
        self, account: Account, failure: Exception | None = None, takes: int | None = None
    ) -> None:
        self.send_group: SendGroup | None = None
        self.account = account
        self.taken = b""
        self.batches: list[Batch] = []
        self.aborted = 0
        self.behind: int | None = None
        self._failure = failure
        self._takes = takes

    @property
    def subscriber(self) -> FakeMember:
        return self

    def find_writer(self) -> DirectWriter:
        return DirectWriter(direct_write.send_each, self.send)

    def send(self, data: bytes) -> int:
        taken = data[: self._takes]
        self.taken += taken
        return len(taken)

    def take_position(self, position: int) -> None: ...

    def resume_feed(self) -> None:
        self.account.broadcaster.register(self)

    def fall_behind(self, rest: bytes, position: int) -> None:
        self.resume_feed()
        self._fail()
        self.taken += rest
        self.behind = position

    def deliver(self, batch: Batch) -> None:
        self._fail()
        self.batches.append(batch)

    def announce(self, status: bytes) -> None: ...

    def abort(self) -> None:
        self.aborted += 1
        self._fail()

    def _fail(self) -> None:
        if self._failure is not None:
            raise self._failure
