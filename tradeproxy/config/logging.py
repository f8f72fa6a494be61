"""The settings of the log: its format, and the lowest level that it contains."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tradeproxy.config.env import Environment


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


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The format of the log, and its level. Events below the level are dropped.

    A format of None means text on a terminal, and JSON elsewhere.
    """

    format: LogFormat | None = None
    level: Level = Level.INFO


def read_log(env: Environment) -> LogSettings:
    """Read PROXY_LOG_FORMAT and PROXY_LOG_LEVEL. Problems go to `env.findings`."""
    return LogSettings(
        format=env.parse("PROXY_LOG_FORMAT", _parse_format, None),
        level=env.parse("PROXY_LOG_LEVEL", _parse_level, Level.INFO),
    )


def _parse_format(text: str) -> LogFormat | None:
    try:
        return LogFormat(text.lower())
    except ValueError:
        raise ValueError(f"{text!r} is neither text nor json") from None


def _parse_level(text: str) -> Level:
    try:
        return Level(text.lower())
    except ValueError:
        raise ValueError(
            f"{text!r} is not one of {', '.join(level.value for level in Level)}"
        ) from None
