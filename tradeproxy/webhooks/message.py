"""The content of a message: an event of the log or of the proxy, before it has a format."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from tradeproxy.wire.event import AMENDMENT_KINDS, Number, format_time, read_time
from tradeproxy.wire.frame import Recovered, extract_data
from tradeproxy.wire.plural import plural
from tradeproxy.wire.position import compute_check

LATE = 3600 * 1_000_000
"""Microseconds after which a recovered event is marked as late."""

MAX_FIELD = 64
"""Characters of one field of an event in a text."""

_WORD = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""An id that the signature can contain: it separates its parts by dots."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Events that are not sent: too old, or no longer stored. Times are microseconds since 1970."""

    count: int = 0
    begin: int | None = None
    end: int | None = None

    def add(self, count: int, begin: int | None, end: int | None) -> Skipped:
        """Return this with more events, which came later."""
        first = begin if self.begin is None else self.begin
        return Skipped(self.count + count, first, end if end is not None else self.end)

    def describe(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"count": self.count, "from": _format(self.begin), "until": _format(self.end)}


@dataclass(frozen=True, slots=True)
class DroppedData:
    """Where the data of a message is: between two bytes of the frame of row `seq`.

    check: the checksum of that frame. A log that has lost its end reuses numbers.
    """

    seq: int
    check: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    id: the same for every attempt to send it, in every process.
    type: `trade_updates.<event>` or `proxy.<event>`.
    account: the account's name; "" for a test.
    time: when it happened (microseconds since 1970), or None.
    data: the JSON of Alpaca's event, or of the proxy's own; b"" if it was dropped.
    text: one line for people, without markup.
    recovered: the mark of an event that the stream did not bring, or None.
    is_late: whether it is recovered and older than LATE.
    dropped: where the data is that was dropped, or None.
    """

    id: str
    type: str
    account: str
    time: int | None
    data: bytes
    text: str
    recovered: str | None = None
    is_late: bool = False
    dropped: DroppedData | None = None

    def drop_data(self, seq: int, payload: bytes) -> Message:
        """Return this without its data, which is in the frame `payload` of row `seq`."""
        begin = _join_lines(payload).find(self.data)
        end, check = begin + len(self.data), compute_check(payload)
        return replace(self, data=b"", dropped=DroppedData(seq, check, begin, end))

    def restore_data(self, dropped: DroppedData, payload: bytes) -> Message:
        """Return this with the data that was dropped. Raises ValueError for another frame."""
        if compute_check(payload) != dropped.check:
            raise ValueError
        return replace(self, data=_join_lines(payload)[dropped.begin : dropped.end], dropped=None)

    def build_text(self, skipped: Skipped) -> str:
        """Return the whole line for people."""
        parts = [f"{self.account}: {self.text}" if self.account else self.text]
        if self.is_late:
            parts.append("(late: found after an interruption)")
        if skipped.count:
            since, until = _format(skipped.begin) or "?", _format(skipped.end) or "?"
            events = plural(skipped.count, "event")
            parts.append(f"({events} before this skipped, from {since} to {until})")
        return " ".join(parts)

    def build_envelope(self, skipped: Skipped) -> bytes:
        """Return the JSON document; the data is Alpaca's, byte for byte but for line breaks."""
        members: dict[str, Any] = {
            "type": self.type,
            "timestamp": _format(self.time),
            "id": self.id,
            "account": self.account,
        }
        if self.recovered is not None:
            members["recovered"] = self.recovered
            members["late"] = self.is_late
        if skipped.count:
            members["skipped"] = skipped.describe()
        head = json.dumps(members, separators=(",", ":")).encode()
        return head[:-1] + b',"data":' + self.data + b"}"


def build_event_message(
    account: str, payload: bytes, row_id: str, time: int | None, now: int
) -> Message:
    """Return the message of an event.

    Args:
        account: its account's name.
        payload: its frame.
        row_id: identifies its row in the log; for an event without an id of Alpaca's.
        time: the event's time, or None.
        now: the time; both are microseconds since 1970.
    """
    data, mark, fields, order = _read_event(payload)
    kind, event_id = fields.get("event"), fields.get("event_id")
    kind = kind if isinstance(kind, str) and _WORD.fullmatch(kind) else "other"
    is_marked = mark in {each.value for each in Recovered}
    time = read_time(fields.get("at")) or read_time(fields.get("timestamp")) or time
    message_id = event_id if isinstance(event_id, str) and _WORD.fullmatch(event_id) else row_id
    if kind in AMENDMENT_KINDS and message_id == event_id:
        # It may have the event_id of the execution, and a bust that of its correction.
        message_id = f"{event_id}-{kind}"
    return Message(
        id=message_id,
        type=f"trade_updates.{kind}",
        account=account,
        time=time,
        data=data,
        text=_describe_event(kind, fields, order, time),
        recovered=mark if is_marked else None,
        is_late=is_marked and time is not None and now - time > LATE,
    )


@lru_cache(maxsize=4)
def _read_event(payload: bytes) -> tuple[bytes, str | None, dict[str, Any], dict[str, Any]]:
    """Return the data of a frame, its mark, and the words of the event and of its order.

    The webhooks of an account ask for the same frame, and one of 1 MiB takes long. A few accounts
    may have such frames at once.
    """
    try:
        data, mark = extract_data(payload)
        fields = json.loads(data, parse_int=Number, parse_float=Number)
    except (ValueError, RecursionError, IndexError):
        return b"null", None, {}, {}
    order = fields.get("order") if isinstance(fields, dict) else None
    return data, mark, _read_words(fields), _read_words(order)


def _join_lines(payload: bytes) -> bytes:
    return payload.replace(b"\r", b" ").replace(b"\n", b" ")  # as extract_data does


def _read_words(document: object) -> dict[str, Any]:
    if not isinstance(document, dict):
        return {}
    return {name: each for name, each in document.items() if isinstance(each, str | Number)}


def build_proxy_message(
    account: str, event: str, time: int, text: str, data: dict[str, Any]
) -> Message:
    """Return the message of an event of the proxy itself; `time` is microseconds since 1970."""
    return Message(
        id=f"proxy-{event}-{account}-{time}",
        type=f"proxy.{event}",
        account=account,
        time=time,
        data=json.dumps(data, separators=(",", ":")).encode(),
        text=clean(f"{event}: {text}", 500),
    )


def clean(value: object, limit: int = MAX_FIELD) -> str:
    """Return a text or number on one line, of `limit` characters at most; "" for other values."""
    value = value.text if isinstance(value, Number) else value
    if not isinstance(value, str):
        return ""
    line = "".join(
        character if character.isprintable() else " " for character in value[: limit + 1]
    )
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _describe_event(
    kind: str, fields: dict[str, Any], order: dict[str, Any], time: int | None
) -> str:
    price = clean(fields.get("price")) or clean(order.get("limit_price"))
    words = [
        clean(order.get("side")),
        clean(fields.get("qty")) or clean(order.get("qty")) or clean(order.get("notional")),
        clean(order.get("symbol")),
        f"at {price}" if price else "",
    ]
    parts = [f"{kind}: {' '.join(filter(None, words))}".rstrip(": ")]
    if filled := clean(order.get("filled_qty")):
        total = clean(order.get("qty"))
        parts.append(f"filled {filled} of {total}" if total else f"filled {filled}")
    if reason := clean(fields.get("reason"), 200):
        parts.append(f"reason: {reason}")
    if name := clean(order.get("client_order_id")):
        parts.append(f"order {name}")
    if time is not None:
        parts.append(f"{format_time(time)[:19].replace('T', ' ')} UTC")
    return ", ".join(parts)


def _format(time: int | None) -> str | None:
    return None if time is None else format_time(time)
