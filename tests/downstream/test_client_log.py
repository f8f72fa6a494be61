"""Tests for tradeproxy.downstream.client_log: the lines about clients, and their limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTH, FILL, LISTEN
from tests.support.proxy import Client, NarrowTransport, ProxyTestCase
from tests.support.send_groups import SendGroupTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.client_log import LOST, MAX_ANONYMOUS, MAX_LINES, ClientInfo, ClientLog
from tradeproxy.downstream.factory import PING_INTERVAL, PONG_TIMEOUT
from tradeproxy.wire.close_codes import CloseCode

SECRET = "hushhush"
WHERE = '127.0.0.1:50000 /trade-updates-paper "bot/1"'

INFO = ClientInfo("bot/1", "WebSocket", 0, "[::1]:50000", "/paper", "begins live", 0, "::1")


@contextmanager
def client_lines() -> Iterator[list[str]]:
    """Collect the lines about clients that are logged inside."""
    lines: list[str] = []
    with capturedLogs() as events:
        yield lines
    texts = (formatEvent(event) for event in events)
    lines += [text for text in texts if text.startswith(("client ", "no line for "))]


class ClientLineTests(ProxyTestCase):
    """From the log alone an operator sees which bot came and went, and why."""

    def open(self, query: str = "", agent: str = "bot/1") -> Client:
        """Connect and log in."""
        client = self.connect(f"/trade-updates-paper{query}", User_Agent=agent)
        self.say(client, AUTH)
        return client

    def test_name_of_a_client_is_beside_its_address(self) -> None:
        """Bots of one machine have the same address, and often the same User-Agent."""
        with client_lines() as lines:
            self.open("?client_name=bot1").sendClose(3001)
            self.wires.advance(1)
        for line in lines:
            self.assertIn('127.0.0.1:50000 "bot1" /trade-updates-paper', line)
        self.assertEqual(len(lines), 2)

    def test_websocket_has_a_line_when_it_connects_and_one_when_it_leaves(self) -> None:
        """The second one has how long it stayed, how many events passed, and who closed."""
        with client_lines() as lines:
            client = self.open()
            self.publish(self.paper, FILL)
            self.wires.advance(90)
            client.sendClose(3001, f"{SECRET} of the client's own")
            self.wires.advance(1)
        self.assertEqual(
            lines,
            [
                f"client connected: {WHERE}, begins live",
                f"client left: {WHERE} after 90.0 s and 1 event: the client closed with 3001",
            ],
        )

    def test_sse_has_the_same_lines(self) -> None:
        """A response that ends by itself is no lost connection."""
        self.publish(self.paper, *(event_of(number) for number in range(5)))
        path = "/paper/v2/events/trades"
        since = self.paper.cursor_at(2)
        with client_lines() as lines:
            self.request(f"{path}?since_id={since}&until_id={self.paper.cursor_at(4)}")
            response = self.request(path, User_Agent="curl/8")
            assert response.transport is not None
            response.transport.loseConnection()
            self.wires.advance(1)
        where = "127.0.0.1:50000 /paper/v2/events/trades"
        self.assertEqual(
            lines,
            [
                f'client connected: {where} "", resumes after an id',
                f'client left: {where} "" after 0.0 s and 2 events: the response is complete',
                f'client connected: {where} "curl/8", begins live',
                f'client left: {where} "curl/8" after 0.0 s and 0 events: the connection was lost',
            ],
        )

    def test_line_has_how_the_client_resumed_and_no_query(self) -> None:
        """A query may have a secret, and a cursor that is valid for a stranger too."""
        self.publish(self.paper, *(event_of(number) for number in range(5)))
        with client_lines() as lines:
            for query in (
                f"since_id={self.paper.cursor_at(3)}&token={SECRET}",
                "since=2027-01-15T08:00:00Z",
                "replay=2",
            ):
                self.open(f"?{query}", "a").sendClose(1000)
                self.wires.advance(1)
        where = '127.0.0.1:50000 /trade-updates-paper "a"'
        end = "the client closed with 1000"
        self.assertEqual(
            lines[::2],
            [
                f"client connected: {where}, {begin}"
                for begin in ("resumes after an id", "resumes at a time", "replays the last 2")
            ],
        )
        self.assertEqual(
            lines[1::2],
            [f"client left: {where} after 0.0 s and {count} events: {end}" for count in (2, 0, 2)],
        )

    def test_client_whose_position_is_unknown_has_both_lines(self) -> None:
        """It is closed in the turn in which it logs in; a bot may repeat that for hours."""
        with client_lines() as lines:
            self.open("?since_id=nosuch")
            self.wires.advance(1)
        self.assertEqual(
            lines,
            [
                f"client connected: {WHERE}, resumes after an id",
                f"client left: {WHERE} after 0.0 s and 0 events: closed with 4010: "
                + CloseCode.POSITION_LOST.reason,
            ],
        )

    def test_events_before_a_filter_are_named_so(self) -> None:
        """The number of events that match is not known: to count them would cost time for each."""
        with client_lines() as lines:
            client = self.open("?symbols=NOSUCH")
            self.publish(self.paper, FILL)
            client.sendClose(1000)
            self.wires.advance(1)
        self.assertIn("and 1 event before its filter: ", lines[1])

    def test_events_of_a_filtered_response_are_named_so(self) -> None:
        """A response with an end by time leaves out later events too."""
        for query in ("symbols=NOSUCH", "since=2027-01-15T08:00:00Z&until=2999-01-01T00:00:00Z"):
            with client_lines() as lines:
                response = self.request(f"/paper/v2/events/trades?{query}")
                assert response.transport is not None
                response.transport.loseConnection()
                self.wires.advance(1)
            self.assertIn(" before its filter: ", lines[1], query)

    def test_response_that_the_proxy_ends_has_its_reason(self) -> None:
        """A lost connection would be the network's fault."""
        with client_lines() as lines:
            self.request("/paper/v2/events/trades")
            [served] = self.factory.clients
            served.abort()
            self.wires.advance(1)
            self.request("/paper/v2/events/trades")
            self.service.stopService()
            self.wires.advance(1)
        self.assertTrue(lines[1].endswith(": dropped by the proxy"), lines[1])
        self.assertTrue(lines[3].endswith(": the proxy is restarting: reconnect"), lines[3])

    def test_events_that_a_client_did_not_listen_to_do_not_count(self) -> None:
        """After `unlisten` and `listen` the stream begins live."""
        with client_lines() as lines:
            client = self.connect("/trade-updates-paper/stream")
            self.say(client, AUTH, LISTEN)
            self.publish(self.paper, event_of(1))
            self.say(client, b'{"action":"unlisten","data":{"streams":["trade_updates"]}}')
            self.publish(self.paper, event_of(2), event_of(3))
            self.say(client, LISTEN)
            self.publish(self.paper, event_of(4))
            client.sendClose(1000)
            self.wires.advance(1)
        self.assertIn(" and 2 events: ", lines[1])

    def test_user_agent_is_quoted_escaped_and_cut(self) -> None:
        """A client chooses it, and could imitate a line about another one."""
        with client_lines() as lines:
            self.open(agent='bot", begins live: \\')
            self.open(agent="a" * 40 + "b" * 40)
        self.assertIn(' "bot\\", begins live: \\\\", begins live', lines[0])
        self.assertIn(f' "{"a" * 31}…{"b" * 32}", begins live', lines[1])

    def test_client_before_auth_has_a_line_when_it_leaves(self) -> None:
        """It is a stranger until then, or a bot whose login is wrong."""
        with client_lines() as lines:
            self.connect(User_Agent="bot/1").sendClose(1000)
            self.wires.advance(1)
            self.connect(User_Agent="bot/1")
            self.wires.advance(Limits().auth_timeout)
        left = f"client left before auth: {WHERE} after"
        self.assertEqual(
            lines,
            [
                f"{left} 0.0 s: the client closed with 1000",
                f"{left} 10.0 s: closed with 4002: {CloseCode.NO_AUTH.reason}",
            ],
        )

    def test_reason_is_that_of_the_proxy(self) -> None:
        """A stop, a broken message, a client that answers no ping, and an error."""
        with client_lines() as lines:
            broken = self.open()
            broken.sendFrame(opcode=3)
            self.wires.advance(1)
            silent = self.open()
            silent.answers_pings = False
            self.wires.advance(PING_INTERVAL + PONG_TIMEOUT + 2)
            self.open()
            [served] = self.factory.clients
            served.abort()
            self.wires.advance(1)
            self.open()
            self.service.stopService()
            self.wires.advance(3)
        self.assertEqual(
            [line.partition(" events: ")[2] for line in lines if line.startswith("client left")],
            [
                "closed with 1002",
                f"no pong for {PONG_TIMEOUT} s",
                "dropped by the proxy",
                f"closed with 1012: {CloseCode.RESTARTING.reason}",
            ],
        )

    def test_stop_without_clients_reports_those_that_left(self) -> None:
        """The count of what is left out waits for a minute. The last stranger may be gone."""
        for _ in range(MAX_ANONYMOUS + 2):
            self.connect("/trade-updates-paper").sendClose(1000)
            self.wires.advance(0.1)
        with client_lines() as lines:
            self.service.stopService()
        self.assertEqual(len(lines), 1)
        self.assertIn("no line for 2 more clients", lines[0])

    def test_stop_reports_every_client_that_left(self) -> None:
        """The process ends before the timer that reports how many lines were left out."""
        for _ in range(MAX_LINES + 5):
            self.open()
        self.wires.advance(10)
        with client_lines() as lines:
            self.service.stopService()
            self.wires.flush()
            self.wires.advance(0)
        self.assertEqual(len(self.factory.clients), 0)
        report = "no line for 0 more clients that connected and 5 that left"
        self.assertEqual((len(lines), lines[-1]), (MAX_LINES + 1, report))

    def test_client_that_keeps_the_connection_open_after_its_close_has_closed(self) -> None:
        """The proxy drops the connection some seconds later. That is not the reason."""
        self.wires.transport = NarrowTransport
        with client_lines() as lines:
            client = self.open()
            self.server_transport(0).loseConnection = lambda: None
            client.sendClose(1000)
            self.wires.advance(60)
        self.assertIn(": the client closed with 1000", lines[1])


class ClientLogLimitTests(SynchronousTestCase):
    """However many clients reconnect, the log stays readable, and the disk does not fill."""

    def test_10000_clients_that_reconnect_write_some_hundred_lines(self) -> None:
        """Within ten seconds all of them leave and come back; the numbers are complete."""
        clock = Clock()
        log = ClientLog(clock)
        with capturedLogs() as events:
            for number in range(10_000):
                log.left(INFO, number, "the connection was lost")
                log.connected(INFO)
                clock.advance(0.001)
            log.flush()
        lines = [formatEvent(event) for event in events]
        self.assertLessEqual(len(lines), 200)
        reports = [event for event in events if "more client{s}" in event["log_format"]]
        self.assertEqual(
            [
                sum(event[kind] for event in reports)
                + sum(line.startswith(f"client {kind}") for line in lines)
                for kind in ("connected", "left")
            ],
            [10_000, 10_000],
        )

    def test_lines_of_strangers_do_not_take_those_of_clients(self) -> None:
        """Without a token it is easy to connect and leave."""
        log = ClientLog(Clock())
        with client_lines() as lines:
            for _ in range(100):
                log.left(INFO, None, "the connection was lost")
            log.connected(INFO)
            log.flush()
        self.assertEqual(len(lines), MAX_ANONYMOUS + 2)
        self.assertEqual(lines[-2], 'client connected: [::1]:50000 /paper "bot/1", begins live')
        self.assertEqual(lines[-1], f"no line for 95 more clients that left before auth: {LOST}")

    def test_strangers_have_lines_again_after_a_minute(self) -> None:
        """With the count of those that were left out."""
        clock = Clock()
        log = ClientLog(clock)
        counts = []
        for seconds in (0.0, 59.875, 0.125):
            with client_lines() as lines:
                clock.advance(seconds)
                for _ in range(6):
                    log.left(INFO, None, "the connection was lost")
            counts.append(len(lines))
        self.assertEqual(counts, [5, 0, 6])

    def test_loop_with_a_wrong_token_writes_six_lines_a_minute(self) -> None:
        """It wrote six a second, half a million a day. No client is left out of the count."""
        clock = Clock()
        log = ClientLog(clock)
        refused = f"closed with 4001: {CloseCode.TOKEN_REFUSED.reason}"
        with client_lines() as lines:
            for _ in range(20 * 600):
                log.left(INFO, None, refused)
                clock.advance(0.05)
            log.flush()
        self.assertLessEqual(len(lines), 10 * (MAX_ANONYMOUS + 1) + 1)
        reports = [line for line in lines if line.startswith("no line for ")]
        for report in reports:
            self.assertTrue(report.endswith(f" clients that left before auth: {refused}"), report)
        hidden = sum(int(report.split()[3]) for report in reports)
        self.assertEqual(hidden + len(lines) - len(reports), 12_000)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_loop_of_one_program_does_not_hide_another_one(self) -> None:
        """A bot that leaves for another reason has its line, while the loop goes on."""
        log = ClientLog(Clock())
        for _ in range(100):
            log.left(INFO, None, "closed with 4001: a wrong token")
        with client_lines() as lines:
            log.left(INFO, None, "closed with 4002: no auth message")
        self.assertEqual(len(lines), 1)

    def test_codes_of_clients_are_one_reason(self) -> None:
        """A stranger may send each of 2,000 codes, and would get five lines for each."""
        log = ClientLog(Clock())
        with client_lines() as lines:
            for code in range(3000, 5000):
                log.left(INFO, None, f"the client closed with {code}")
            log.flush()
        self.assertEqual(len(lines), MAX_ANONYMOUS + 1)


class SendGroupLogTests(SendGroupTestCase):
    """Clients in a send group."""

    def test_events_of_a_group_count_for_each_of_its_members(self) -> None:
        """The group counts nothing: the number is the difference of two positions."""
        with client_lines() as lines:
            first, _ = self.form_group(2)
            self.publish(3)
            late = self.peer()
            self.publish(2)
            for peer in (first, late):
                peer.socket.is_reset = True
            self.kernel.settle()
        ends = [line for line in lines if line.startswith("client left: ")]
        self.assertEqual([line.split(" s and ")[1].split()[0] for line in ends], ["6", "2"])

    def test_events_of_a_group_that_is_dropped_count_for_its_members(self) -> None:
        """A journal that is replaced drops whole groups; the lines had the events before them."""
        with client_lines() as lines:
            self.form_group(2)
            self.publish(3)
            self.account.journal.on_replaced()
            self.kernel.settle()
        ends = [line for line in lines if line.startswith("client left: ")]
        self.assertEqual([line.split(" s and ")[1].split()[0] for line in ends], ["4", "4"])


def event_of(number: int) -> bytes:
    """Return a frame with an event of its own."""
    return (
        b'{"stream":"trade_updates","data":{"event":"new","event_id":"%d","order":{"id":"%d"}}}'
        % (number, number)
    )
