"""Webhooks of a real proxy, with a receiver on a real socket."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.client import Agent, readBody

from tests.integration.test_tls import CertificateTestCase
from tests.support.listening import listen
from tests.support.processes import Command, free_port
from tests.support.reactor import reactor
from tests.support.receiver import Behavior, Received, Receiver
from tests.support.sockets import SocketTestCase
from tests.support.webhooks import webhook_with
from tests.system.webhooks import run_webhooks
from tradeproxy.config.webhooks import WebhookSettings
from tradeproxy.simulator.service import Simulator
from tradeproxy.webhooks.formats import OutgoingRequest
from tradeproxy.webhooks.sender import MAX_ANSWER, ReceiverAnswer, Sender
from tradeproxy.webhooks.service import build_sender

EVENT = {"event": "fill", "order": {"id": "1", "symbol": "AAPL"}}
REQUEST = OutgoingRequest(b"/hook", (("webhook-id", "1"),), 2, lambda: b"{}")


def sender_for(webhook: WebhookSettings) -> Sender:
    """Return the sender of a webhook, without an HTTP proxy."""
    return build_sender(webhook, reactor, None, lambda: 0.0)


class ReceiverTestCase(SocketTestCase):
    """A receiver; a subclass sends to it."""

    async def receive(self, *behaviors: Behavior) -> Receiver:
        """Start a receiver that does these in turn, and then accepts everything."""
        left = list(behaviors)
        receiver = self.receiver = Receiver(lambda: left.pop(0) if left else Behavior.OK)
        await receiver.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(receiver.stop()))
        return receiver

    async def when(self, condition: Callable[[], object]) -> None:
        """Wait until a request makes the condition true."""
        while not condition():
            happened: Deferred[None] = Deferred()
            self.receiver.on_request = lambda happened=happened: (  # type: ignore[misc]
                None if happened.called else happened.callback(None)
            )
            await happened.addTimeout(20, reactor)


class SenderTests(ReceiverTestCase):
    """One request, and what came of it."""

    async def build(self, *behaviors: Behavior) -> Sender:
        """Return a sender to a receiver that behaves so."""
        receiver = await self.receive(*behaviors)
        sender = sender_for(webhook_with(URL=receiver.url))
        self.addCleanup(sender.close)
        return sender

    async def send(self, *behaviors: Behavior) -> ReceiverAnswer:
        """Send a request to a receiver that behaves so."""
        return await (await self.build(*behaviors)).send(REQUEST)

    async def test_connection_is_kept_for_the_next_request(self) -> None:
        """A TLS handshake takes more of the event loop's time than all else about a message."""
        sender = await self.build()
        statuses = [(await sender.send(REQUEST)).status for _ in range(3)]
        self.assertEqual((statuses, self.receiver.connected), ([200] * 3, 1))
        sender.close()
        while self.receiver.connections:
            await deferLater(reactor, 0.01)

    async def test_large_body_arrives_whole(self) -> None:
        """It is sent in pieces, on a new connection and on one that was kept."""
        body = bytes(range(256)) * 8_000 + b"}"
        sender = await self.build()
        for _ in range(2):
            request = OutgoingRequest(b"/hook", (("webhook-id", "1"),), len(body), lambda: body)
            self.assertEqual((await sender.send(request)).status, 200)
        self.assertEqual([each.body for each in self.receiver.received], [body, body])
        self.assertEqual(self.receiver.connected, 1)

    async def test_request_that_cannot_be_read_closes_the_connection(self) -> None:
        """Its event was trimmed while the first pieces were sent. The receiver gets no half."""
        body = b"x" * 2_000_000
        bodies = iter([body, body])
        sender = await self.build()
        request = OutgoingRequest(b"/hook", (), len(body), lambda: next(bodies))
        answer = await sender.send(request)
        self.assertEqual(answer, ReceiverAnswer(None, "its event could not be read"))
        self.assertEqual(self.receiver.received, [])
        while self.receiver.connections:
            await deferLater(reactor, 0.01)

    async def test_connection_with_an_answer_other_than_2xx_is_not_kept(self) -> None:
        """A server between may answer 504 for a receiver that is late, whose answer then follows.

        It would count for the next message, which would then be lost.
        """
        sender = await self.build(Behavior.ERROR, Behavior.REDIRECT, Behavior.BUSY)
        statuses = [(await sender.send(REQUEST)).status for _ in range(4)]
        self.assertEqual((statuses, self.receiver.connected), ([500, 302, 429, 200], 4))

    async def test_request_that_meets_the_end_of_a_kept_connection_is_sent_again(self) -> None:
        """A receiver closes what is idle, and the message would wait for a second."""
        sender = await self.build(Behavior.OK, Behavior.CLOSE_AT_ONCE, Behavior.OK)
        for _ in range(2):
            self.assertEqual((await sender.send(REQUEST)).status, 200)
        self.assertEqual((len(self.receiver.received), self.receiver.connected), (3, 2))

    async def test_request_without_an_answer_twice_has_failed(self) -> None:
        """It is no idle connection that the receiver closes then, but the request."""
        close = Behavior.CLOSE_AT_ONCE
        sender = await self.build(Behavior.OK, close, close)
        answers = [await sender.send(REQUEST) for _ in range(2)]
        self.assertEqual(answers[1].reason, "the connection was lost before the answer")
        self.assertEqual(len(self.receiver.received), 3)

    async def test_bytes_behind_an_answer_are_not_the_next_answer(self) -> None:
        """A receiver could answer a message that it does not have yet."""
        sender = await self.build(Behavior.EXTRA)
        for _ in range(2):
            self.assertEqual((await sender.send(REQUEST)).status, 200)
        self.assertEqual(len(self.receiver.received), 2)

    async def test_answers_are_read(self) -> None:
        """The status, and how long to wait. A redirect, to a metadata service, is not followed."""
        for behavior, answer in (
            (Behavior.OK, ReceiverAnswer(200, "HTTP 200")),
            (Behavior.ERROR, ReceiverAnswer(500, "HTTP 500")),
            (Behavior.BUSY, ReceiverAnswer(429, "HTTP 429", 1.0)),
            (Behavior.GARBLED, ReceiverAnswer(503, "HTTP 503")),
            (Behavior.REDIRECT, ReceiverAnswer(302, "HTTP 302, which is not followed")),
            (
                Behavior.CLOSE_EARLY,
                ReceiverAnswer(None, "the connection was lost before the answer"),
            ),
            (
                Behavior.CLOSE_AT_ONCE,
                ReceiverAnswer(None, "the connection was lost before the answer"),
            ),
        ):
            self.assertEqual(await self.send(behavior), answer)
            self.assertEqual(len(self.receiver.received), 1)

    async def test_long_answer_is_not_read(self) -> None:
        """The connection is closed after some KiB."""
        self.assertEqual((await self.send(Behavior.FLOOD)).status, 200)
        self.assertLess(MAX_ANSWER, len(Behavior.FLOOD.value))
        while self.receiver.connections:
            await deferLater(reactor, 0.01)

    async def test_nothing_listens(self) -> None:
        """The reason has neither the address nor the port."""
        webhook = webhook_with(URL=f"http://127.0.0.1:{free_port()}/x")
        answer = await sender_for(webhook).send(REQUEST)
        self.assertEqual(answer, ReceiverAnswer(None, "connection refused"))

    async def test_cancelled_request_closes_the_connection(self) -> None:
        """A node that no longer leads must not deliver a message late, nor send it once more."""
        for before in ([], [Behavior.OK]):
            sender = await self.build(*before, Behavior.SILENCE)
            for _ in before:
                await sender.send(REQUEST)
            sending = Deferred.fromCoroutine(sender.send(REQUEST))
            sending.addBoth(lambda _: None)
            await self.when(lambda before=before: len(self.receiver.received) > len(before))  # type: ignore[misc]
            sending.cancel()
            while self.receiver.connections:
                await deferLater(reactor, 0.01)
            self.assertEqual(len(self.receiver.received), len(before) + 1)


class TlsReceiverTests(CertificateTestCase, ReceiverTestCase):
    """A receiver whose certificate no public authority has issued."""

    async def test_certificate_is_verified(self) -> None:
        """Anybody between here and there could read the messages otherwise."""
        webhook = webhook_with(URL=f"https://127.0.0.1:{await self.listen_with_tls()}/x")
        answer = await sender_for(webhook).send(REQUEST)
        self.assertEqual(answer, ReceiverAnswer(None, "TLS failed: certificate verify failed"))

    async def listen_with_tls(self) -> int:
        """Start a receiver with a certificate for localhost, and return its port."""
        return await listen(self, Receiver(), self.identity.endpoint())


class WebhookProxyTests(ReceiverTestCase):
    """The product."""

    alpaca: Simulator

    async def start(self, *behaviors: Behavior, **suffixes: str) -> Command:
        """Start Alpaca, the receiver and the proxy with the webhook DESK."""
        self.alpaca = await self.simulate()
        receiver = await self.receive(*behaviors)
        command = await self.proxy(**self.settings_for(receiver.url, **suffixes))
        await self.alpaca.when_listening()
        return command

    def settings_for(self, url: str, **suffixes: str) -> dict[str, str]:
        """Return the variables of the webhook DESK."""
        given = {"URL": url, **suffixes}
        return {f"PROXY_WEBHOOK_DESK_{name}": value for name, value in given.items()}

    async def get(self, path: str) -> tuple[int, Any]:
        """Return the status and the body of a page of the proxy."""
        url = f"http://127.0.0.1:{self.port}{path}".encode()
        response: Any = await Agent(reactor).request(b"GET", url)
        return response.code, (await readBody(response)).decode()

    def sent(self) -> list[Received]:
        """Return what the receiver has accepted."""
        return self.receiver.accepted

    async def test_event_is_sent_and_shown(self) -> None:
        """In /status.json and /metrics; the URL is nowhere."""
        proxy = await self.start()
        self.alpaca.emit({"event_id": "01KYA98DWAS5PA5B0000000001", **EVENT})
        await self.when(self.sent)
        [request] = self.sent()
        self.assertEqual(request.path, "/hook?token=hush")
        self.assertEqual(request.document["type"], "trade_updates.fill")
        self.assertEqual(request.document["data"]["order"]["symbol"], "AAPL")
        self.assertEqual(request.key, "01KYA98DWAS5PA5B0000000001")
        await deferLater(reactor, 1.1)  # both documents are up to a second old
        _, status = await self.get("/status.json")
        [shown] = json.loads(status)["webhooks"]
        self.assertEqual((shown["name"], shown["sent"], shown["state"]), ("DESK", 1, "ready"))
        _, metrics = await self.get("/metrics")
        labels = '{account="paper",webhook="DESK"}'
        self.assertIn(f"tradeproxy_webhook_sent_total{labels} 1.0", metrics)
        await proxy.stop()
        for text in (status, metrics, proxy.output):
            self.assertNotIn("hush", text)
            self.assertNotIn(str(self.receiver.port), text)

    async def test_stop_stores_the_position(self) -> None:
        """The next process repeats nothing."""
        proxy = await self.start()
        self.alpaca.emit(EVENT)
        await self.when(self.sent)
        await deferLater(reactor, 0.2)
        await proxy.stop()
        await self.proxy(**self.settings_for(self.receiver.url))
        await self.alpaca.when_listening()
        self.alpaca.emit({**EVENT, "order": {"id": "2", "symbol": "MSFT"}})
        await self.when(lambda: len(self.sent()) >= 2)
        symbols = [each.document["data"]["order"]["symbol"] for each in self.sent()]
        self.assertEqual(symbols, ["AAPL", "MSFT"])

    async def test_stopped_webhook_is_in_readyz_and_starts_after_a_reload(self) -> None:
        """The status stays 200: the clients get their events, and a restart is no remedy."""
        path = Path(self.make_directory(), "url")
        receiver = await self.receive(Behavior.UNAUTHORIZED)
        path.write_text(receiver.url)
        self.alpaca = await self.simulate()
        name = "PROXY_WEBHOOK_DESK_URL_FILE"
        proxy = await self.proxy(**{name: str(path), "PROXY_HOST": "127.0.0.1"})
        await self.alpaca.when_listening()
        self.alpaca.emit(EVENT)
        await proxy.says("webhook DESK: stopped: the receiver answers HTTP 401")
        status, body = await self.get("/readyz")
        document = json.loads(body)
        self.assertEqual((status, document["ready"]), (200, True))
        self.assertEqual(
            document["reasons"], ["webhook DESK: stopped: the receiver answers HTTP 401"]
        )
        os.kill(proxy.pid, signal.SIGHUP)
        await self.when(self.sent)
        self.assertEqual(len(receiver.received), 2)

    async def test_dead_receiver_delays_no_client(self) -> None:
        """The client has all events while the receiver has answered none."""
        await self.start(*[Behavior.HANG] * 5)
        client = await self.subscribe()
        for n in range(200):
            self.alpaca.emit({**EVENT, "order": {"id": str(n)}})
        await client.has(200)
        self.assertEqual(self.sent(), [])

    async def test_notify_sends_a_test_message(self) -> None:
        """One line, and the exit status."""
        receiver = await self.receive(Behavior.OK, Behavior.REFUSED)
        keys = {"ALPACA_API_KEY": "k", "ALPACA_SECRET_KEY": "s"}
        for line, status in (
            ("webhook DESK: sent: HTTP 200", 0),
            ("webhook DESK: not sent: HTTP 422", 1),
        ):
            command = self.command(
                *("tradeproxy", "notify", "test", "desk"), **keys, **self.settings_for(receiver.url)
            )
            self.assertEqual(await command.ended, status)
            self.assertEqual(command.output, f"{line}\n")
        self.assertEqual(receiver.received[0].document["type"], "proxy.test")
        command = self.command("tradeproxy", "notify", "test", "x", **keys)
        self.assertEqual(await command.ended, 1)
        self.assertEqual(
            command.output, "there is no webhook 'x'; the webhooks are: there is none\n"
        )

    async def test_metadata_address_is_refused_at_the_start(self) -> None:
        """One line, without the URL."""
        keys = {"ALPACA_API_KEY": "k", "ALPACA_SECRET_KEY": "s"}
        url = self.settings_for("https://[::ffff:169.254.169.254]/hush")
        command = self.command("tradeproxy", "run", **keys, **url)
        self.assertEqual(await command.ended, 1)
        self.assertEqual(
            command.output,
            "PROXY_WEBHOOK_DESK_URL: refused: the address contains an address that is link-local\n",
        )


class FailingReceiverTests(SocketTestCase):
    """The short form of `make webhooks`."""

    async def test_no_event_is_lost_and_all_are_in_order(self) -> None:
        """The receiver fails in every way and dies, and the proxy is killed."""
        report = await run_webhooks(self.make_directory(), seed=3, events=300, kills=1, hangs=0)
        self.assertEqual(len(report.wanted), 300)
        self.assertTrue(report.is_clean, report)
