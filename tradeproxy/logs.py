"""The log: its format, and which lines of libraries it has.

The format is plain text on a terminal, and one JSON object a line elsewhere.
`tradeproxy run` chooses the format. twistd takes an observer by its name:
`--logger=tradeproxy.logs.json_observer`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from twisted.application.service import Service
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tradeproxy.config.env import Environment, Findings
from tradeproxy.config.logging import Level, LogFormat, LogSettings
from tradeproxy.config.setting import read_fields
from tradeproxy.runtime.repeated_lines import is_logged
from tradeproxy.wire.printable import make_one_line

LONGEST = 1000
"""Characters of a message or of one of its values. Our own messages are shorter."""
LONGEST_TRACEBACK = 20_000

OURS = "tradeproxy."
"""Prefix of our loggers. A line of theirs without a traceback is one state change."""

MAX_KINDS = 1000
"""Kinds of lines that are counted; beyond it counting starts over."""

MAX_TEXT = 100
"""Characters of a text that stand for its format."""

_TEXTS = {"{log_text}": "log_text", "{log_io}": "log_io"}
"""The formats that hold a whole text, with the key of the text."""

_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|[0-9]+|'[^']*'")


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


def environment_observer(form: LogFormat | None = None) -> ILogObserver:
    """Return the observer that writes to standard output, in this format or the environment's."""
    # twistd passes no arguments, so read the environment. tap.py has already checked it.
    settings = read_fields(LogSettings, Environment(os.environ, Path(), Findings()))
    return observer(replace(settings, format=form or settings.format), sys.stdout)


def text_observer() -> ILogObserver:
    """Return the observer that writes text to standard output, for twistd's `--logger`."""
    return environment_observer(LogFormat.TEXT)


def json_observer() -> ILogObserver:
    """Return the observer that writes JSON to standard output, for twistd's `--logger`."""
    return environment_observer(LogFormat.JSON)


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
        "time": datetime.fromtimestamp(event["log_time"], UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "level": event["log_level"].name,
        "logger": event["log_namespace"],
        "message": _cut(message),
    }
    if traceback := _traceback(event):
        document["traceback"] = traceback
    return json.dumps(document | _values(event) | document) + "\n"


def _message(event: LogEvent) -> str | None:
    """Return the text of an event; None if it has none or is a library's information."""
    return None if _is_library_information(event) else formatEvent(event) or None


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
    return make_one_line(_cut(text))


def _cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def _is_library_information(event: LogEvent) -> bool:
    """Whether an event is what a library reports at level info, which is left out of the log.

    The state changes have lines of our own. Only an operator who reads Twisted's code could use it.
    """
    is_ours = event.get("log_namespace", "").startswith(OURS)
    return event.get("log_level") is LogLevel.info and not is_ours


@implementer(ILogObserver)
class LogThrottle:
    """Passes the 1st, 10th, 100th … event of each kind on to another observer, with the count.

    The kind of an event is its logger, its account, its format without numbers and quoted text,
    and the type and the place of its failure. Twisted gives one format to all lines of its older
    interface and of `print`. For them the beginning of the text stands for the format.
    """

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer
        self._counts: Counter[tuple[object, ...]] = Counter()

    def __call__(self, event: LogEvent) -> None:
        """Pass the event on, or only count it."""
        namespace = event.get("log_namespace", "")
        failure = event.get("log_failure") or event.get("failure")
        if failure is None and namespace.startswith(OURS):
            self._observer(event)
            return
        if failure is None and _is_library_information(event):
            return
        line = str(event.get("log_format") or "")
        text = str(event.get(_TEXTS.get(line, ""), line))[:MAX_TEXT]
        kind = (namespace, _VARIABLE.sub("#", text), event.get("account"), _find_place(failure))
        if len(self._counts) >= MAX_KINDS:
            self._counts.clear()
        self._counts[kind] += 1
        count = self._counts[kind]
        if count == 1:
            self._observer(event)
        elif is_logged(count):
            self._observer({**event, "log_format": f"{line} ({{so_far}} so far)", "so_far": count})


def _find_place(failure: Failure | None) -> tuple[object, ...] | None:
    """Return the type of a failure, and the file and the line of its innermost frame."""
    if failure is None:
        return None
    frame = failure.frames[-1] if failure.frames else ()
    return (failure.type, *frame[1:3])


class LogThrottleService(Service):
    """Puts a LogThrottle before every observer of the log, whichever program chose them.

    Add it as the first service. twistd installs its observers before it starts the services, whose
    ports Twisted would log; twist installs them when the reactor runs.
    """

    def __init__(
        self,
        when_running: Callable[[Callable[[], None]], object],
        publisher: LogPublisher = globalLogPublisher,
    ) -> None:
        """`when_running` is the reactor's callWhenRunning."""
        self._when_running = when_running
        self._publisher = publisher
        self._throttled: list[tuple[ILogObserver, LogThrottle]] = []

    def privilegedStartService(self) -> None:
        """Wrap the observers that are there, before the other services listen."""
        super().privilegedStartService()
        self._wrap_observers()

    def startService(self) -> None:
        """Wrap the observers that are there now, or when the reactor runs."""
        super().startService()
        self._wrap_observers()
        self._when_running(self._wrap_observers)

    def _wrap_observers(self) -> None:
        # The list is not public, and there is no other way to the observers that twistd chose.
        for observer in list(getattr(self._publisher, "_observers", ())):
            # With twist, a publisher keeps the events until the observers are there.
            if isinstance(observer, LogThrottle | LogPublisher):
                continue
            throttle = LogThrottle(observer)
            self._publisher.removeObserver(observer)
            self._publisher.addObserver(throttle)
            self._throttled.append((observer, throttle))

    def stopService(self) -> None:
        """Leave the observers as they were."""
        super().stopService()
        for observer, throttle in self._throttled:
            self._publisher.removeObserver(throttle)
            self._publisher.addObserver(observer)
        self._throttled.clear()
