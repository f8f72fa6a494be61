"""The trade log: its folder and the format of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tradeproxy.config.storage import find_home

if TYPE_CHECKING:
    from pathlib import Path

    from tradeproxy.config.env import Environment


class TradeLogFormat(Enum):
    """The format of the files; the value is the end of their names."""

    CSV = "csv"
    """A header line, then one line for each event, with the columns of `tradeproxy export`."""
    JSONL = "jsonl"
    """Each event's data as one line of JSON, with the members `recovered` and `cursor` added."""


@dataclass(frozen=True, slots=True)
class TradeLogSettings:
    """The folder of the files, and their format."""

    directory: Path
    format: TradeLogFormat = TradeLogFormat.CSV


def read_trade_log(env: Environment, *, in_memory: bool) -> TradeLogSettings | None:
    """Read the settings of the trade log. Problems and warnings go to `env.findings`.

    Returns None without a folder, and with `in_memory` (the demo).
    """
    names = ("PROXY_TRADE_LOG", "PROXY_TRADE_LOG_FORMAT")
    chosen = env.parse("PROXY_TRADE_LOG_FORMAT", _parse_format, TradeLogFormat.CSV)
    text = env.get("PROXY_TRADE_LOG")
    if in_memory:
        env.warn_unused(names, "by the demo, which stores events in memory")
        return None
    if text is None:
        if chosen is not TradeLogFormat.CSV:
            env.warn_unused(names, "without PROXY_TRADE_LOG")
        return None
    env.warn_of_quotes("PROXY_TRADE_LOG", text)
    home = re.compile(r"\A~(?=/|\Z)")
    directory = env.directory / home.sub(lambda _: str(find_home(env, "PROXY_TRADE_LOG")), text)
    return TradeLogSettings(directory, chosen)


def _parse_format(text: str) -> TradeLogFormat:
    try:
        return TradeLogFormat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither csv nor jsonl") from None
