"""Tests for tradeproxy.webhooks.formats and .signature: what each kind of receiver gets."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block, SectionBlock
from standardwebhooks import Webhook, WebhookVerificationError
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tests.support.webhooks import webhook_with
from tradeproxy.webhooks.formats import (
    MAX_DISCORD,
    MAX_NTFY,
    MAX_SLACK,
    MAX_TELEGRAM,
    OutgoingRequest,
    build_discord,
    build_ntfy,
    build_request,
    build_slack,
    build_telegram,
    count_units,
    escape_discord,
    fit,
)
from tradeproxy.webhooks.message import Message, Skipped

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NOW = 1_790_000_000.0

MESSAGE = Message(
    id="01KYA98DWAS5PA5B0000000001",
    type="trade_updates.fill",
    account="paper",
    time=1_790_000_000_000_000,
    data=b'{"event":"fill","price":"100.50"}',
    text="fill: buy 10 AAPL at 100.50, order *bot_1*",
)

DISCORD_SCHEMA: dict[str, Any] = {
    # RESTPostAPIWebhookWithTokenJSONBody, of v10, with Discord's limits. One that it does not have
    # would be ignored by Discord, or answered with 400. `make formats` checks the types.
    "type": "object",
    "additionalProperties": False,
    "required": ["content"],
    "properties": {
        "content": {"type": "string", "minLength": 1, "maxLength": 2000},
        "username": {"type": "string", "minLength": 1, "maxLength": 80},
        "avatar_url": {"type": "string"},
        "tts": {"type": "boolean"},
        "embeds": {"type": "array", "maxItems": 10},
        "allowed_mentions": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "parse": {"type": "array", "items": {"enum": ["roles", "users", "everyone"]}},
                "roles": {"type": "array", "items": {"type": "string"}, "maxItems": 100},
                "users": {"type": "array", "items": {"type": "string"}, "maxItems": 100},
                "replied_user": {"type": "boolean"},
            },
        },
        "components": {"type": "array"},
        "attachments": {"type": "array"},
        # MessageFlags that a webhook may set: SuppressEmbeds, SuppressNotifications.
        "flags": {"enum": [0, 4, 4096, 4100]},
        "thread_name": {"type": "string"},
        "applied_tags": {"type": "array", "items": {"type": "string"}},
        "poll": {"type": "object"},
    },
}

TELEGRAM_SCHEMA: dict[str, Any] = {
    # Telegram's Bot API, sendMessage.
    "type": "object",
    "additionalProperties": False,
    "required": ["chat_id", "text"],
    "properties": {
        "chat_id": {"type": ["integer", "string"]},
        "message_thread_id": {"type": ["integer", "string"]},
        "disable_notification": {"type": ["boolean", "string"]},
        "text": {"type": "string", "minLength": 1, "maxLength": 4096},
        "link_preview_options": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"is_disabled": {"type": "boolean"}},
        },
    },
}


def build(skipped: Skipped = Skipped(), message: Message = MESSAGE, **suffixes: str) -> Any:  # noqa: B008
    """Return the request of a webhook with these suffixes."""
    return build_request(webhook_with(**suffixes), message, skipped, NOW)


def document_of(request: OutgoingRequest) -> Any:
    """Return the body of a request."""
    return json.loads(request.read_body())


class JsonTests(SynchronousTestCase):
    """The format json, which is Standard Webhooks'."""

    def test_signature_is_verified_by_standardwebhooks(self) -> None:
        """The receiver needs none of our code."""
        now = time.time()  # the library compares it with the machine's clock
        request = build_request(webhook_with(SECRET=SECRET), MESSAGE, Skipped(), now)
        headers = dict(request.headers)
        self.assertEqual(headers["webhook-id"], MESSAGE.id)
        self.assertEqual(headers["webhook-timestamp"], str(int(now)))
        for key in (SECRET, SECRET.removeprefix("whsec_")):
            webhook = Webhook(key)
            self.assertEqual(
                webhook.verify(request.read_body(), headers)["data"]["price"],
                "100.50",
            )
            with self.assertRaises(WebhookVerificationError):
                webhook.verify(request.read_body() + b" ", headers)
            for name, value in (("webhook-id", "x"), ("webhook-timestamp", str(int(now) + 1))):
                with self.assertRaises(WebhookVerificationError):
                    webhook.verify(request.read_body(), {**headers, name: value})

    def test_request_does_not_show_its_target(self) -> None:
        """The path of a receiver is its password."""
        request = build_request(webhook_with(), MESSAGE, Skipped(), NOW)
        self.assertNotIn(request.target.decode(), repr(request))

    def test_unsigned_message_has_no_signature(self) -> None:
        """An empty one would look like a wrong one."""
        self.assertNotIn("webhook-signature", dict(build().headers))

    def test_envelope_has_alpacas_event_as_it_came(self) -> None:
        """A number keeps its digits: 100.50 is not 100.5, and 1e400 fits no float."""
        data = b'{"event":"fill","price":100.50,"big":1e400}'
        request = build(message=replace(MESSAGE, data=data, recovered="events", is_late=True))
        self.assertEqual(
            request.read_body(),
            b'{"type":"trade_updates.fill","timestamp":"2026-09-21T14:13:20.000000Z",'
            b'"id":"01KYA98DWAS5PA5B0000000001","account":"paper","recovered":"events",'
            b'"late":true,"data":' + data + b"}",
        )

    def test_skipped_events_are_described(self) -> None:
        """A receiver that keeps books knows that it has a hole, and where."""
        document = document_of(build(Skipped().add(2, 0, 1_000_000).add(1, None, 2_000_000)))
        self.assertEqual(
            document["skipped"],
            {
                "count": 3,
                "from": "1970-01-01T00:00:00.000000Z",
                "until": "1970-01-01T00:00:02.000000Z",
            },
        )


class ChatTests(SynchronousTestCase):
    """The formats for people."""

    def test_discord_has_its_fields(self) -> None:
        """As in discord-api-types; the mentions and the Markdown of an order id have no effect."""
        document = document_of(build(FORMAT="discord"))
        jsonschema.validate(document, DISCORD_SCHEMA)
        self.assertEqual(document["allowed_mentions"], {"parse": []})
        self.assertIn("order \\*bot\\_1\\*", document["content"])

    def test_slack_has_the_fields_of_its_sdk(self) -> None:
        """Its models validate the block; its client sends no other field."""
        document = document_of(build(FORMAT="slack"))
        [block] = Block.parse_all(document["blocks"])
        assert isinstance(block, SectionBlock)
        block.validate_json()
        self.assertEqual(block.to_dict(), document["blocks"][0])
        sdk = {"text", "attachments", "blocks", "response_type", "unfurl_links", "unfurl_media"}
        self.assertLessEqual(set(document), sdk)

    def test_telegram_has_the_parameters_of_send_message(self) -> None:
        """Those of the URL's query are in the body, so they are sent once."""
        request = build(
            FORMAT="telegram",
            URL="https://api.telegram.org/bot1:x/sendMessage?chat_id=-100&message_thread_id=7",
        )
        document = document_of(request)
        jsonschema.validate(document, TELEGRAM_SCHEMA)
        self.assertEqual((document["chat_id"], document["message_thread_id"]), ("-100", "7"))
        self.assertEqual(request.target, b"/bot1:x/sendMessage")

    def test_ntfy_is_plain_text(self) -> None:
        """At the topic's URL, with its query."""
        request = build(FORMAT="ntfy", URL="https://ntfy.example/topic?auth=x")
        self.assertEqual(request.target, b"/topic?auth=x")
        self.assertEqual(
            request.read_body().decode(), "paper: fill: buy 10 AAPL at 100.50, order *bot_1*"
        )

    def test_marks_are_in_the_text(self) -> None:
        """A late event, and events that were skipped."""
        late = replace(MESSAGE, recovered="events", is_late=True)
        text = build(Skipped(1, 0, 0), late, FORMAT="ntfy").read_body().decode()
        self.assertIn("(late: found after an interruption)", text)
        self.assertIn(
            "(1 event before this skipped, from 1970-01-01T00:00:00.000000Z to 1970-", text
        )


class MarkupTests(SynchronousTestCase):
    """Texts from outside that a chat would read as something else."""

    def test_discord_markup_is_escaped(self) -> None:
        """Mentions, links, headings, quotes, code, spoilers and times."""
        for text in (
            "@everyone",
            "<@1234>",
            "<t:1:R>",
            "[x](https://evil.example)",
            "https://evil.example",
            "`code`",
            "||x||",
            "# heading",
            "> quote",
            "- item",
            "~~x~~ __x__ **x**",
        ):
            content = build_discord(text)["content"]
            self.assertEqual(content.replace("\\", ""), text)
            unescaped = content.replace("\\\\", "")
            for character in "@<>[]()`|#*_~":
                self.assertEqual(
                    unescaped.count(character), unescaped.count(f"\\{character}"), content
                )
            self.assertNotIn("https:", content)

    def test_slack_mentions_are_escaped(self) -> None:
        """In the notification; the block is plain text."""
        document = build_slack("<!channel> & <https://evil.example|x>")
        self.assertEqual(document["text"], "&lt;!channel&gt; &amp; &lt;https://evil.example|x&gt;")
        self.assertEqual(document["blocks"][0]["text"]["type"], "plain_text")
        self.assertFalse(document["unfurl_links"])

    def test_telegram_makes_no_mention_and_no_command(self) -> None:
        """There is no parse_mode, so nothing else is markup. A pair stays as it is."""
        document = build_telegram("@somebody /start #tag BTC/USD <b> *x*")
        self.assertEqual(
            document["text"],
            "@\u2060somebody /\u2060start #\u2060tag BTC/USD <b> *x*",
        )
        self.assertNotIn("parse_mode", document)


class LengthTests(SynchronousTestCase):
    """No receiver rejects a message for its length."""

    texts = st.text(max_size=50).map(lambda text: text * 200)

    @examples(25)
    @given(texts)
    def test_every_format_stays_below_its_limit(self, text: str) -> None:
        """In the units in which the receiver counts, escapes included."""
        self.assertLessEqual(count_units(build_discord(text)["content"]), MAX_DISCORD)
        slack = build_slack(text)
        self.assertLessEqual(count_units(slack["text"]), MAX_SLACK)
        self.assertLessEqual(count_units(slack["blocks"][0]["text"]["text"]), MAX_SLACK)
        self.assertLessEqual(count_units(build_telegram(text)["text"]), MAX_TELEGRAM)
        self.assertLessEqual(len(build_ntfy(text)), MAX_NTFY)

    def test_cut_text_ends_with_an_ellipsis_and_whole_characters(self) -> None:
        """Neither a surrogate pair nor an escape sequence is cut in two."""
        self.assertEqual(fit("ab" * 5, str, len, 10), "ab" * 5)
        self.assertEqual(fit("ab" * 6, str, len, 10), "ababababa…")
        self.assertEqual(fit("\U0001f600" * 6, str, count_units, 10), "\U0001f600" * 4 + "…")
        self.assertEqual(fit("*" * 6, escape_discord, len, 10), "\\*" * 4 + "…")

    def test_lone_surrogate_is_replaced(self) -> None:
        """JSON can contain one, and UTF-8 cannot."""
        builders: tuple[Callable[[str], object], ...] = (build_discord, build_slack, build_ntfy)
        for builder in builders:
            self.assertNotIn("\ud800", str(builder("x\ud800y")))
