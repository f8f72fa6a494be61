"""Tests for the shares of the addresses: one with many requests does not lock out the others."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.memory import CLIENT
from tests.support.proxy import RawClient
from tests.support.state import BlockedStateCase, StateTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.log_reader import LogReader
from tradeproxy.web import state_pages
from tradeproxy.web.state_pages import YIELD_AFTER

GREEDY, OTHER = "192.0.2.1", "192.0.2.2"


class FairShareCase(StateTestCase):
    """Clients at several addresses, behind a trusted reverse proxy, without tests."""

    limits = Limits(max_clients=40)
    trusted_proxies = ("127.0.0.1/32",)

    def setUp(self) -> None:
        super().setUp()
        self.patch(state_pages, "MAX_ANSWERS", 4)
        self.trade_often(300, note="x" * 4000)


class SendingTests(BlockedStateCase, FairShareCase):
    """All places are taken by answers that are being sent, to clients that have not read yet."""

    def ask_from(self, *hosts: str) -> None:
        """Ask for a large answer from each of these addresses."""
        for host in hosts:
            self.ask("/state", X_Forwarded_For=host)

    def list_dropped(self) -> list[int]:
        """Return the numbers of the requests whose connections are dropped."""
        return [n for n, transport in enumerate(self.servers) if transport.disconnecting]

    def assert_is_busy(self, host: str) -> None:
        """Assert that a request from this address takes no place."""
        dropped = self.list_dropped()
        answer = self.ask("/state", X_Forwarded_For=host)
        self.servers[-1].blocked = False
        self.wires.flush()
        self.assertEqual(answer.status, 503)
        self.assertEqual(self.list_dropped(), dropped)

    def test_other_address_takes_places_of_the_greediest(self) -> None:
        """One address that asked again and again took all places: others got 503 all the time."""
        self.ask_from(GREEDY, GREEDY, GREEDY, GREEDY)
        self.ask_from(OTHER)
        self.assertEqual(self.list_dropped(), [3], "the newest")
        self.ask_from(OTHER)
        self.assertEqual(self.list_dropped(), [2, 3])
        self.assert_is_busy(OTHER)
        self.assert_is_busy(GREEDY)

    def test_addresses_of_one_network_of_ipv6_share_their_places(self) -> None:
        """Each would count as another client, and keep its place."""
        self.ask_from(*[f"2001:db8::{n}" for n in range(4)])
        self.ask_from(OTHER)
        self.assertEqual(self.list_dropped(), [3])

    def test_answer_that_waits_longest_is_the_one_that_ends(self) -> None:
        """Its client does not read."""
        self.ask_from(GREEDY)
        self.wires.advance(YIELD_AFTER / 2)
        self.ask_from(GREEDY, GREEDY, GREEDY, OTHER)
        self.assertEqual(self.list_dropped(), [0])

    def test_greediest_takes_no_place_of_a_slow_reader(self) -> None:
        """After two seconds without reading, an answer gave way to any address."""
        self.ask_from(OTHER)
        self.wires.advance(YIELD_AFTER)
        self.ask_from(GREEDY, GREEDY, GREEDY)
        self.assert_is_busy(GREEDY)

    def test_addresses_with_one_place_each_keep_it(self) -> None:
        """A new address would only take the place of one that is as modest."""
        self.ask_from(*[f"192.0.2.{n}" for n in range(4)])
        self.assert_is_busy("192.0.2.9")


class WorkingTests(FairShareCase):
    """All places are taken by answers of which nothing is sent yet."""

    def test_newest_answer_of_the_greediest_becomes_503(self) -> None:
        """Its connection stays, so that its client asks again."""
        answers = [RawClient() for _ in range(6)]
        head = b"GET /paper/state HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: %b\r\n\r\n"
        servers = []
        for client in answers:
            server = self.site.buildProtocol(CLIENT)
            servers.append(server)
            self.wires.join(server, client)
        for number, server in enumerate(servers):
            host = OTHER if number == 5 else GREEDY
            server.dataReceived(head % host.encode())
        self.wires.flush()
        self.assertEqual([answer.status for answer in answers], [200, 200, 200, 503, 503, 200])
        self.assertFalse(any(answer.gone for answer in answers))


class StepTests(FairShareCase):
    """The steps of each client are queued under its address."""

    def test_streams_queue_under_the_address_that_was_forwarded(self) -> None:
        """All clients behind a reverse proxy would share one turn."""
        hosts: list[str] = []
        schedule = LogReader.schedule

        def record(log_reader: LogReader, step: Callable[[], None], host: str) -> None:
            hosts.append(host)
            schedule(log_reader, step, host)

        self.patch(LogReader, "schedule", record)
        self.ask("/v2/events/trades?snapshot=1", X_Forwarded_For=OTHER)
        self.assertEqual(set(hosts), {OTHER})
        hosts.clear()
        self.open_client("/paper?snapshot=1", X_Forwarded_For=GREEDY)
        self.assertEqual(set(hosts), {GREEDY})
