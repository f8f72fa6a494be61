"""What every journal has, wherever it is kept: its facts, what it counts, and whom it tells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING

from tradeproxy.journal.metadata import Facts
from tradeproxy.runtime.stats import COMMITS, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.journal.base import Burst
    from tradeproxy.wire.event import Event
    from tradeproxy.wire.proxy_status import JournalStatus


class JournalBase(Facts, ABC):
    """The part of hub.journal.Journal that does not depend on where the log is."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self.duplicates = 0
        self.kinds: Counter[str] = Counter()
        self.commits = Histogram(COMMITS)
        self.on_committed: Callable[[Burst], None] = lambda _: None
        self.on_status: Callable[[JournalStatus], None] = lambda _: None
        self.on_begun: Callable[[], None] = lambda: None
        self.on_broken: Callable[[], None] = lambda: None

    def has(self, event: Event) -> bool:
        """Whether this very event has been appended before, or lies before the horizon."""
        known = self._knows(event)  # first: a file that turns out to be damaged moves the horizon
        return known or (event.time is not None and self.horizon is not None and event.time <= self.horizon)

    def remember(self, key: str, value: str | None) -> None:
        """Keep a short text under a name, durably once that is possible; None forgets it."""
        if self.recall(key) != value:
            self._remembered[key] = value
            self._save()

    def know_through(self, time: int) -> None:
        """Move the horizon to this time, unless it is further on."""
        if self.horizon is None or time > self.horizon:
            self.horizon = time
            self._save()

    @abstractmethod
    def _knows(self, event: Event) -> bool:
        """Whether this very event is kept, or waits for that."""

    @abstractmethod
    def _save(self) -> None:
        """Let the facts be saved, as they are now."""
