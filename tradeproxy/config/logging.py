"""The settings of the log: its format, and the lowest level that it contains."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tradeproxy.config.setting import choice, setting


class LogFormat(Enum):
    """The format of the log."""

    TEXT = "text"
    """Lines for people."""
    JSON = "json"
    """One JSON object per line, for programs."""


class Level(Enum):
    """The severity of a log event. The names are those of `twisted.logger.LogLevel`."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    CRITICAL = "critical"


def _parse_format(text: str) -> LogFormat | None:
    return choice(LogFormat, any_case=True)(text) if text else None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The format of the log, and its level. A format of None depends on the terminal."""

    format: LogFormat | None = setting(
        "PROXY_LOG_FORMAT",
        _parse_format,
        "",
        "`text`: for people; `json`: one object per line",
        "The default is text on a terminal, else json.",
        cell="text on a terminal, else json",
    )
    level: Level = setting(
        "PROXY_LOG_LEVEL",
        choice(Level, any_case=True),
        "info",
        "the lowest level in the log: debug, info, warn, error or critical",
        reload=True,
    )
