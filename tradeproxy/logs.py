"""The log format: plain text on a terminal, one JSON object a line elsewhere.

`tradeproxy run` chooses the format. twistd takes an observer by its name:
`--logger=tradeproxy.logs.json_observer`.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)

from tradeproxy.config.env import Environment, Findings
from tradeproxy.config.logging import Level, LogFormat, LogSettings, read_log
from tradeproxy.runtime.log_throttle import OURS, is_library_information
from tradeproxy.wire.event import format_time

LONGEST = 1000
"""Characters of a message or of one of its values. Our own messages are shorter."""
LONGEST_TRACEBACK = 20_000


def observer(
    settings: LogSettings, stream: TextIO, levels: LogLevelFilterPredicate | None = None
) -> ILogObserver:
    """Return the observer that writes the log to `stream`; `set_level` changes its `levels`."""
    if isinstance(stream, TextIOWrapper):  # a character outside the encoding must not lose the line
        stream.reconfigure(errors="backslashreplace")
    chosen = settings.format or (LogFormat.TEXT if stream.isatty() else LogFormat.JSON)
    write = FileLogObserver(stream, as_text if chosen is LogFormat.TEXT else as_json)
    levels = levels or LogLevelFilterPredicate()
    set_level(levels, settings.level)
    return FilteringLogObserver(write, [levels])


def set_level(levels: LogLevelFilterPredicate, level: Level) -> None:
    """Drop events below `level` from now on."""
    levels.setLogLevelForNamespace("", LogLevel.lookupByName(level.value))


def environment_observer() -> ILogObserver:
    """Return the observer that writes to standard output as the environment says."""
    return _named(None)


def text_observer() -> ILogObserver:
    """Return the observer that writes text to standard output, for twistd's `--logger`."""
    return _named(LogFormat.TEXT)


def json_observer() -> ILogObserver:
    """Return the observer that writes JSON to standard output, for twistd's `--logger`."""
    return _named(LogFormat.JSON)


def as_text(event: LogEvent) -> str | None:
    """Return an event as a line with its local time. An indented traceback follows."""
    message = _message(event)
    if message is None:
        return None
    time = datetime.fromtimestamp(event["log_time"]).strftime("%Y-%m-%d %H:%M:%S")
    namespace = event["log_namespace"]
    source = "" if namespace.startswith(OURS) else f"[{namespace}] "
    lines = [f"{time} {event['log_level'].name:<5} {_one_line(source + message)}"]
    lines += (f"    {_one_line(line)}" for line in _traceback(event).splitlines())
    return "\n".join(lines) + "\n"


def as_json(event: LogEvent) -> str | None:
    """Return an event as one JSON object: `time`, `level`, `logger`, `message` and its values."""
    message = _message(event)
    if message is None:
        return None
    document: dict[str, Any] = {
        "time": format_time(round(event["log_time"] * 1_000_000)),
        "level": event["log_level"].name,
        "logger": event["log_namespace"],
        "message": _cut(message),
    }
    if traceback := _traceback(event):
        document["traceback"] = traceback
    return json.dumps(document | _values(event) | document) + "\n"


def _message(event: LogEvent) -> str | None:
    """Return the text of an event; None if it has none or is a library's information."""
    return None if is_library_information(event) else formatEvent(event) or None


def _named(form: LogFormat | None) -> ILogObserver:
    # twistd passes no arguments, so read the environment. tap.py has already checked it.
    settings = read_log(Environment(os.environ, Path(), Findings()))
    return observer(replace(settings, format=form or settings.format), sys.stdout)


def _values(event: LogEvent) -> dict[str, Any]:
    """Return the values of one of our events. Those of a library may hold anything."""
    if not event["log_namespace"].startswith(OURS):
        return {}
    values = ((name, value) for name, value in event.items() if not name.startswith("log_"))
    return {
        name: _cut(value) if isinstance(value, str) else value
        for name, value in values
        if isinstance(value, str | int | float)
    }


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return "" if failure is None else _cut(failure.getTraceback(), LONGEST_TRACEBACK)


def _one_line(text: str) -> str:
    # A terminal executes control characters, and a line break would forge a log line.
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in _cut(text)
    )


def _cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
