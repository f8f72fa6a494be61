"""The trade log: its folder and the format of its files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tradeproxy.config.env import Environment
from tradeproxy.config.setting import Setting, choice
from tradeproxy.config.storage import expand_path


class TradeLogFormat(Enum):
    """The format of the files; the value is the end of their names."""

    CSV = "csv"
    """A header line, then one line for each event, with the columns of `tradeproxy export`."""
    JSONL = "jsonl"
    """Each event's data as one line of JSON, with the members `recovered` and `cursor` added."""


FOLDER = Setting(
    "PROXY_TRADE_LOG",
    str,
    "",
    "a folder: each trade date's events are appended to a file there, [which stays](trade-log.md)",
    "Its name is <account>-<date>.csv.",
)
FORMAT = Setting(
    "PROXY_TRADE_LOG_FORMAT", choice(TradeLogFormat), "csv", "`csv`, or `jsonl` for JSON lines"
)


@dataclass(frozen=True, slots=True)
class TradeLogSettings:
    """The folder of the files, and their format."""

    directory: Path
    format: TradeLogFormat = TradeLogFormat.CSV


def read_trade_log(env: Environment, *, in_memory: bool) -> TradeLogSettings | None:
    """Read the settings of the trade log. Problems and warnings go to `env.findings`.

    Returns None without a folder, and with `in_memory` (the demo).
    """
    names = (FOLDER.name, FORMAT.name)
    chosen = FORMAT.read(env)
    text = env.get(FOLDER.name)
    if in_memory:
        env.warn_unused(names, "by the demo, which stores events in memory")
        return None
    if text is None:
        if chosen is not TradeLogFormat.CSV:
            env.warn_unused(names, "without PROXY_TRADE_LOG")
        return None
    return TradeLogSettings(expand_path(env, FOLDER.name, text), chosen)
