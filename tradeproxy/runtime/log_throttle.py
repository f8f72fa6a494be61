"""Lines of libraries, and repeated tracebacks: only the 1st, 10th, 100th warning is logged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, LogLevel, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

OURS = "tradeproxy."
"""Prefix of our loggers. A line of theirs without a traceback is one state change."""

MAX_KINDS = 1000
"""Kinds of lines that are counted; beyond it counting starts over."""

MAX_TEXT = 100
"""Characters of a text that stand for its format."""

_TEXTS = {"{log_text}": "log_text", "{log_io}": "log_io"}
"""The formats that hold a whole text, with the key of the text."""

_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|[0-9]+|'[^']*'")


def is_logged(count: int) -> bool:
    """Whether the count is 1, 10, 100 …: these occurrences of one kind are logged."""
    return str(count).strip("0") == "1"


def is_library_information(event: LogEvent) -> bool:
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
        if failure is None and is_library_information(event):
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
