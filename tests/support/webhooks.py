"""A receiver of webhooks in memory, and settings of webhooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tradeproxy.config.settings import SettingsError, read_settings
from tradeproxy.config.webhooks import ReceiverUrl, WebhookSettings
from tradeproxy.webhooks.formats import OutgoingRequest
from tradeproxy.webhooks.sender import ReceiverAnswer

PAIR = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}
URL = "https://receiver.example/hook?token=hush"
OK = ReceiverAnswer(200, "HTTP 200")


def read_webhooks_of(**suffixes: str) -> tuple[WebhookSettings, ...]:
    """Return the webhooks of the settings with PROXY_WEBHOOK_DESK_<SUFFIX> variables."""
    variables = {f"PROXY_WEBHOOK_DESK_{name}": value for name, value in suffixes.items()}
    return read_settings(PAIR | variables, directory=Path("/nowhere"), ipv6_loopback=True).webhooks


def webhook_with(**suffixes: str) -> WebhookSettings:
    """Return the webhook DESK with these suffixes."""
    [webhook] = read_webhooks_of(**{"URL": URL, **suffixes})
    return webhook


def url_of(webhook: WebhookSettings) -> ReceiverUrl:
    """Return the URL of a webhook that is not Apprise's."""
    assert isinstance(webhook.url, ReceiverUrl)
    return webhook.url


def read_problems(**variables: str) -> tuple[str, ...]:
    """Return the problems of these variables; none if the settings are right."""
    try:
        read_settings(PAIR | variables, directory=Path("/nowhere"), ipv6_loopback=True)
    except SettingsError as error:
        return error.problems
    return ()


class MemoryReceiver:
    """A sender whose receiver gives the next of `answers`, then `default`.

    `None` as an answer never comes.
    """

    def __init__(self, *answers: ReceiverAnswer | None) -> None:
        self.answers = list(answers)
        self.default: ReceiverAnswer | None = OK
        self.requests: list[OutgoingRequest] = []
        self.cancelled = 0
        self.closed = 0

    async def send(self, request: OutgoingRequest) -> ReceiverAnswer:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else self.default
        if answer is None:
            never: Deferred[ReceiverAnswer] = Deferred(self._cancel)
            return await never
        return answer

    def close(self) -> None:
        self.closed += 1

    def _cancel(self, _: object) -> None:
        self.cancelled += 1

    @property
    def documents(self) -> list[Any]:
        """The bodies of the requests."""
        return [json.loads(request.read_body()) for request in self.requests]

    @property
    def ids(self) -> list[str]:
        """The ids of the events, of all requests."""
        return [document["id"] for document in self.documents]
