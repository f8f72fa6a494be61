"""The formats of the receivers: the body and the headers of a request, from a message.

Texts of an event come from outside: a bot chooses a client_order_id, and Alpaca a reason. So no
format lets them become markup, a mention or a command, and each stays below the receiver's limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, assert_never
from urllib.parse import parse_qsl

from tradeproxy.config.webhooks import AppriseUrl, WebhookFormat, WebhookSettings
from tradeproxy.webhooks.message import Message, Skipped
from tradeproxy.webhooks.signature import sign

MAX_DISCORD = 2000
"""UTF-16 units of `content` (Discord, "Execute Webhook")."""

MAX_SLACK = 3000
"""UTF-16 units of the text of a section (Slack, "Section block")."""

MAX_TELEGRAM = 4096
"""UTF-16 units of a text (Telegram, "sendMessage")."""

MAX_NTFY = 4096
"""Bytes of a message; ntfy makes an attachment of a longer one ("Limitations")."""

MAX_APPRISE = 2000
"""UTF-16 units of a text for Apprise."""

SUPPRESS_EMBEDS = 1 << 2
"""A flag of a Discord message: no previews of links."""

_DISCORD_MARKUP = frozenset("\\*_~`|>#[]()<@:-")
_SLACK_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_TELEGRAM_LINK = re.compile(r"(?<!\w)([@/#$])(?=\w)")
_WORD_JOINER = "\u2060"
"""Without a width. Behind an @ or a /, it keeps Telegram from making a mention or a command."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A POST request.

    target: the path and the query, which are secret.
    length: of the body, in bytes.
    read_body: returns the body. A large one is not kept, but read again.
    """

    target: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...]
    length: int
    read_body: Callable[[], bytes] = field(repr=False)


def build_request(
    webhook: WebhookSettings, message: Message, skipped: Skipped, now: float
) -> OutgoingRequest:
    """Return the request that sends a message.

    Args:
        webhook: the format, the URL and the key of the signature.
        message: what to send.
        skipped: what was not sent before it.
        now: Unix time in seconds, for the signature.
    """
    text = message.build_text(skipped)
    if isinstance(webhook.url, AppriseUrl):
        return _post("", "text/plain", build_apprise(text))
    path, query = webhook.url.path.reveal(), webhook.url.query.reveal()
    target = f"{path}?{query}" if query else path
    match webhook.format:
        case WebhookFormat.JSON:
            body = message.build_envelope(skipped)
            headers = (
                ("webhook-id", message.id),
                ("webhook-timestamp", str(int(now))),
                *sign(webhook.secret, message.id, int(now), body),
            )
            return _post(target, "application/json", body, headers)
        case WebhookFormat.DISCORD:
            return _post_json(target, build_discord(text))
        case WebhookFormat.SLACK:
            return _post_json(target, build_slack(text))
        case WebhookFormat.TELEGRAM:
            return _post_json(path, {**dict(parse_qsl(query)), **build_telegram(text)})
        case WebhookFormat.NTFY | WebhookFormat.APPRISE:
            return _post(target, "text/plain; charset=utf-8", build_ntfy(text))
        case _:  # pragma: no cover
            assert_never(webhook.format)


def build_discord(text: str) -> dict[str, Any]:
    """Return the fields of Discord's "Execute Webhook"."""
    return {
        "content": fit(text, escape_discord, count_units, MAX_DISCORD),
        "allowed_mentions": {"parse": []},
        "flags": SUPPRESS_EMBEDS,
    }


def build_slack(text: str) -> dict[str, Any]:
    """Return the payload of Slack's incoming webhooks. A plain text has no markup."""
    plain = {"type": "plain_text", "text": fit(text, str, count_units, MAX_SLACK), "emoji": False}
    return {
        # In notifications, which do not show the block.
        "text": fit(text, escape_slack, count_units, MAX_SLACK),
        "blocks": [{"type": "section", "text": plain}],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def build_telegram(text: str) -> dict[str, Any]:
    """Return the parameters of Telegram's `sendMessage`. Without a `parse_mode`, none is markup."""
    unlinked = _TELEGRAM_LINK.sub(rf"\1{_WORD_JOINER}", text)
    return {
        "text": fit(unlinked, str, count_units, MAX_TELEGRAM),
        "link_preview_options": {"is_disabled": True},
    }


def build_ntfy(text: str) -> bytes:
    """Return the message of ntfy, which is plain text unless a header says otherwise."""
    return fit(text, str, lambda piece: len(piece.encode()), MAX_NTFY).encode()


def build_apprise(text: str) -> bytes:
    """Return the text for Apprise, which escapes and cuts it as the service demands."""
    return fit(text, str, count_units, MAX_APPRISE).encode()


def escape_discord(text: str) -> str:
    """Escape Discord's Markdown, mentions and links."""
    return "".join(
        f"\\{character}" if character in _DISCORD_MARKUP else character for character in text
    )


def escape_slack(text: str) -> str:
    """Escape what Slack reads as a mention or a link."""
    return "".join(_SLACK_MARKUP.get(character, character) for character in text)


def count_units(text: str) -> int:
    """Return the length in units of UTF-16, as these receivers count."""
    return len(text.encode("utf-16-le")) // 2


def fit(text: str, escape: Callable[[str], str], measure: Callable[[str], int], limit: int) -> str:
    """Return a text, escaped, that measures `limit` at most. A longer one ends with an ellipsis.

    No character and no escape sequence is cut in two.
    """
    # A lone surrogate, which JSON can contain, has no UTF-8.
    text = text.encode("utf-16-le", "replace").decode("utf-16-le", "replace")
    escaped = escape(text)
    if measure(escaped) <= limit:
        return escaped
    kept: list[str] = []
    left = limit - measure("…")
    for character in text:
        piece = escape(character)
        left -= measure(piece)
        if left < 0:
            break
        kept.append(piece)
    return "".join([*kept, "…"])


def _post_json(target: str, document: dict[str, Any]) -> OutgoingRequest:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return _post(target, "application/json", body)


def _post(
    target: str, content_type: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()
) -> OutgoingRequest:
    head = (("content-type", content_type), *headers)
    return OutgoingRequest(target.encode("ascii"), head, len(body), lambda: body)
