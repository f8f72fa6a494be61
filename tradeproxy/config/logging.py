"""The settings of the log: what its lines look like, and from which level on there are any."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tradeproxy.config.env import Environment


class LogFormat(Enum):
    """For whom the log is written."""

    TEXT = "text"
    """For people."""
    JSON = "json"
    """For programs: one object a line."""


class Level(Enum):
    """How grave an event is; the names are Twisted's."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Without a format it is text on a terminal and JSON elsewhere; events below the level are left out."""

    format: LogFormat | None = None
    level: Level = Level.INFO


def read_log(env: Environment) -> LogSettings:
    """Read PROXY_LOG_FORMAT and PROXY_LOG_LEVEL."""
    return LogSettings(
        format=env.parse("PROXY_LOG_FORMAT", _format, None),
        level=env.parse("PROXY_LOG_LEVEL", _level, Level.INFO),
    )


def _format(text: str) -> LogFormat | None:
    try:
        return LogFormat(text.lower())
    except ValueError:
        raise ValueError(f"{text!r} is neither text nor json") from None


def _level(text: str) -> Level:
    try:
        return Level(text.lower())
    except ValueError:
        raise ValueError(
            f"{text!r} is none of {', '.join(level.value for level in Level)}"
        ) from None
