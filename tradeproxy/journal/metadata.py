"""What a journal says of itself: its epoch and bounds, whose it is, and what it was asked to remember."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

OPEN_SINCE = "open gap since"
"""What is remembered under this name is the begin of a gap of which something may still come."""

_REMEMBERED = "remembered "


class Metadata:
    """The state of a journal beside its rows, and how it is saved: as short texts by name."""

    def __init__(self, base_url: str) -> None:
        self.epoch = ""
        self.first, self.last = 1, 0
        self.complete_from = 0
        self.latest_time: int | None = None
        self.dedup_horizon: int | None = None
        self.account_id: str | None = None
        self.base_url = base_url
        self._notes: dict[str, str | None] = {}

    def get_metadata(self, key: str) -> str | None:
        """Return what was remembered under a name."""
        return self._notes.get(key)

    def encode(self) -> dict[str, str | None]:
        """Return what is to be saved; None is for what must no longer be there."""
        numbers = {
            "trimmed": self.first - 1,
            "begins": self.complete_from,
            "latest": self.latest_time,
            "horizon": self.dedup_horizon,
        }
        return {
            "epoch": self.epoch,
            "base_url": self.base_url,
            "account_id": self.account_id,
            **{key: None if number is None else str(number) for key, number in numbers.items()},
            **{_REMEMBERED + key: value for key, value in self._notes.items()},
        }

    def encode_present(self) -> dict[str, str]:
        """Return those that are not None: what is saved where there is nothing yet."""
        return {key: value for key, value in self.encode().items() if value is not None}

    def load(self, facts: Mapping[str, str], rows: tuple[int, int, int | None] | None) -> None:
        """Take what was saved; `rows` are the numbers of the first and last row, and the highest time.

        The base URL is taken too. Raises ValueError or KeyError for what does not fit together.
        """
        begins, trimmed = int(facts["begins"]), int(facts["trimmed"])
        latest, horizon = (
            int(facts[key]) if key in facts else None for key in ("latest", "horizon")
        )
        epoch, base_url = facts["epoch"], facts["base_url"]
        first, last, high = (trimmed + 1, trimmed, None) if rows is None else rows
        if first != trimmed + 1:
            raise ValueError("the first rows are missing")
        self.epoch, self.base_url, self.account_id = epoch, base_url, facts.get("account_id")
        self.first, self.last, self.complete_from = first, last, begins
        self.latest_time, self.dedup_horizon = latest if high is None else high, horizon
        self._notes = _read_notes(facts)

    def adopt(self, facts: Mapping[str, str]) -> None:
        """Take what another process has saved since, of this same log: all but its bounds."""
        if "horizon" in facts:
            told = int(facts["horizon"])
            self.dedup_horizon = (
                told if self.dedup_horizon is None else max(told, self.dedup_horizon)
            )
        self.account_id = facts.get("account_id")
        self._notes = _read_notes(facts)

    def begin_epoch(self, epoch: str, first: int, now: int) -> None:
        """Go on with number `first` under another epoch, at `now` (microseconds since 1970)."""
        self.epoch, self.first = epoch, first
        # A position must not be taken for known whose events went with the old file.
        self.complete_from = now if self.latest_time is None else max(now, self.latest_time + 1)
        if (
            self.latest_time is not None
        ):  # their identities went with it too, and they were delivered
            known = (
                self.latest_time
                if self.dedup_horizon is None
                else max(self.latest_time, self.dedup_horizon)
            )
            missing = self.get_metadata(OPEN_SINCE)
            self.dedup_horizon = known if missing is None else min(known, int(missing))

    def reset_account(self, base_url: str) -> None:
        """Keep nothing but the numbers: what follows is of another account, at this address."""
        self.latest_time = self.dedup_horizon = self.account_id = None
        self.base_url = base_url
        self._notes = {}

    def record_trim(self, through: int, high: int | None) -> None:
        """Move the bounds behind a row up to which `high` was the highest time."""
        self.first = through + 1
        if high is not None:
            self.complete_from = max(self.complete_from, high + 1)
            self.dedup_horizon = (
                high if self.dedup_horizon is None else max(self.dedup_horizon, high)
            )


def _read_notes(facts: Mapping[str, str]) -> dict[str, str | None]:
    return {
        key.removeprefix(_REMEMBERED): value
        for key, value in facts.items()
        if key.startswith(_REMEMBERED)
    }
