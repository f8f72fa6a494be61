"""What a journal says of itself: its epoch and bounds, whose it is, and what it was asked to remember."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

OPEN_SINCE = "open gap since"
"""What is remembered under this name is the begin of a gap of which something may still come."""

_REMEMBERED = "remembered "


class Facts:
    """The state of a journal beside its rows, and how it is saved: as short texts by name."""

    def __init__(self, base_url: str) -> None:
        self.epoch = ""
        self.first, self.last = 1, 0
        self.begins = 0
        self.latest: int | None = None
        self.horizon: int | None = None
        self.account_id: str | None = None
        self.base_url = base_url
        self._remembered: dict[str, str | None] = {}

    def recall(self, key: str) -> str | None:
        """Return what was remembered under a name."""
        return self._remembered.get(key)

    def facts(self) -> dict[str, str | None]:
        """Return what is to be saved; None is for what must no longer be there."""
        numbers = {
            "trimmed": self.first - 1,
            "begins": self.begins,
            "latest": self.latest,
            "horizon": self.horizon,
        }
        return {
            "epoch": self.epoch,
            "base_url": self.base_url,
            "account_id": self.account_id,
            **{key: None if number is None else str(number) for key, number in numbers.items()},
            **{_REMEMBERED + key: value for key, value in self._remembered.items()},
        }

    def known_facts(self) -> dict[str, str]:
        """Return those that are not None: what is saved where there is nothing yet."""
        return {key: value for key, value in self.facts().items() if value is not None}

    def take_up(self, facts: Mapping[str, str], rows: tuple[int, int, int | None] | None) -> None:
        """Take what was saved; `rows` are the numbers of the first and last row, and the highest time.

        The base URL is taken too. Raises ValueError or KeyError for what does not fit together.
        """
        begins, trimmed = int(facts["begins"]), int(facts["trimmed"])
        latest, horizon = (int(facts[key]) if key in facts else None for key in ("latest", "horizon"))
        epoch, base_url = facts["epoch"], facts["base_url"]
        first, last, high = (trimmed + 1, trimmed, None) if rows is None else rows
        if first != trimmed + 1:
            raise ValueError("the first rows are missing")
        self.epoch, self.base_url, self.account_id = epoch, base_url, facts.get("account_id")
        self.first, self.last, self.begins = first, last, begins
        self.latest, self.horizon = latest if high is None else high, horizon
        self._remembered = _remembered_in(facts)

    def adopt(self, facts: Mapping[str, str]) -> None:
        """Take what another process has saved since, of this same log: all but its bounds."""
        if "horizon" in facts:
            told = int(facts["horizon"])
            self.horizon = told if self.horizon is None else max(told, self.horizon)
        self.account_id = facts.get("account_id")
        self._remembered = _remembered_in(facts)

    def begin_epoch(self, epoch: str, first: int, now: int) -> None:
        """Go on with number `first` under another epoch, at `now` (microseconds since 1970)."""
        self.epoch, self.first = epoch, first
        # A position must not be taken for known whose events went with the old file.
        self.begins = now if self.latest is None else max(now, self.latest + 1)
        if self.latest is not None:  # their identities went with it too, and they were delivered
            known = self.latest if self.horizon is None else max(self.latest, self.horizon)
            missing = self.recall(OPEN_SINCE)
            self.horizon = known if missing is None else min(known, int(missing))

    def forget_account(self, base_url: str) -> None:
        """Keep nothing but the numbers: what follows is of another account, at this address."""
        self.latest = self.horizon = self.account_id = None
        self.base_url = base_url
        self._remembered = {}

    def trim(self, through: int, high: int | None) -> None:
        """Move the bounds behind a row up to which `high` was the highest time."""
        self.first = through + 1
        if high is not None:
            self.begins = max(self.begins, high + 1)
            self.horizon = high if self.horizon is None else max(self.horizon, high)


def _remembered_in(facts: Mapping[str, str]) -> dict[str, str | None]:
    return {
        key.removeprefix(_REMEMBERED): value for key, value in facts.items() if key.startswith(_REMEMBERED)
    }
