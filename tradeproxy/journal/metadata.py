"""The metadata of a journal: epoch, bounds, account, and named values that other code stores.

It is saved as short texts by key. Some keys are older than the names in the code:

    key in the store    attribute
    trimmed             first - 1
    begins              complete_from
    latest              latest_time
    horizon             dedup_horizon
    trimmed event       newest_trimmed, as a JSON list
    remembered KEY      set_metadata(KEY, ...)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace

from msgspec import MsgspecError
from msgspec.json import Decoder

from tradeproxy.wire.event import is_time

OPEN_SINCE = "open gap since"
"""The key for the beginning of a gap that is still open (microseconds since 1970), or UNKNOWN."""

UNKNOWN = "unknown"
"""The beginning of a gap after a log that is lost with its bookmark, or before it was read."""

FIRST_STREAM = "complete from"
"""The key for when the first stream began (microseconds since 1970), by this machine's clock.
Alpaca's clock is not known then. The key is older than the name.
"""

ORDERS_THROUGH = "orders through"
"""The key for up to when the log was compared with Alpaca's orders (microseconds since 1970)."""

ASSIGNMENTS = "strategy assignments"
"""The key for the orders that are assigned to strategies by hand: a JSON object, order to strategy.
All nodes get it while they run."""

TRIM_KEYS = ("trimmed", "begins", "horizon", "trimmed event")
"""The keys that a trim changes."""

MAX_SEQ = 2**62
"""A limit that no log reaches, so that the store's 64-bit numbers cannot overflow."""

MAX_NOTES = 32
"""Texts that other code stores. The code has 9."""

MAX_NOTE = 1024 * 1024
"""Characters of such a text. The longest is that of the assignments: 768 KiB."""

REMEMBERED = "remembered "
"""The beginning of the keys of these texts."""

_ASSIGNMENTS = Decoder(dict[str, str])
_NUMBER = re.compile("-?[0-9]{1,20}")
_EPOCH = re.compile("[0-9a-f]{0,16}")
"""An epoch is a part of file names and of cursors. It is empty before the first one."""


@dataclass(frozen=True, slots=True)
class TrimmedEvent:
    """The last event that was trimmed. A client may have it as its position."""

    seq: int
    identity: str
    """Empty for a hole."""
    time: int | None
    """Microseconds since 1970; None unless it is later than that of every event before it."""


class Metadata:
    """The state of a journal besides its rows, and its saved form."""

    def __init__(self, base_url: str) -> None:
        self.epoch = ""
        self.first, self.last = 1, 0
        self.complete_from = 0
        self.latest_time: int | None = None
        self.dedup_horizon: int | None = None
        self.newest_trimmed: TrimmedEvent | None = None
        self.account_id: str | None = None
        self.base_url = base_url
        self._notes: dict[str, str | None] = {}

    def get_metadata(self, key: str) -> str | None:
        """Return the text that is stored under a key; None if there is none."""
        return self._notes.get(key)

    def adopt_text(self, key: str, text: str | None) -> None:
        """Take over the text that another process has saved for this same log under a key."""
        self._notes.pop(key, None)
        self._notes |= _read_notes({} if text is None else {REMEMBERED + key: text})

    def is_newest_trimmed(self, identity: str) -> bool:
        """Whether the last event that was trimmed, of number `first` - 1, has this identity."""
        newest = self.newest_trimmed
        return newest is not None and identity == newest.identity != ""

    def encode(self) -> dict[str, str | None]:
        """Return what must be saved. None stands for a key that must be deleted."""
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
            "trimmed event": _encode_trimmed(self.newest_trimmed),
            **{key: None if number is None else str(number) for key, number in numbers.items()},
            **{REMEMBERED + key: value for key, value in self._notes.items()},
        }

    def encode_present(self) -> dict[str, str]:
        """Return the values that are not None: what must be saved to an empty store."""
        return {key: value for key, value in self.encode().items() if value is not None}

    def encode_state(self) -> dict[str, str]:
        """Return what a new log must have of this one if its rows are lost: see `continue_from`."""
        kept = ("base_url", "account_id", "latest", "horizon")
        return {
            key: value
            for key, value in self.encode_present().items()
            if key in kept or key.startswith(REMEMBERED)
        }

    def continue_from(self, state: Mapping[str, str]) -> None:
        """Take over what `encode_state` returned for a log whose rows are lost."""
        self.latest_time, self.dedup_horizon = (
            read_time(state.get(key)) for key in ("latest", "horizon")
        )
        self.account_id = state.get("account_id")
        self._notes = _read_notes(state)

    def load(self, saved: Mapping[str, str], rows: tuple[int, int, int | None] | None) -> None:
        """Replace this state by the saved one, base URL included.

        `rows` are the sequence numbers of the first and the last stored row, and the highest time.
        None means that no row is stored. Raises ValueError or KeyError if the values are
        incomplete or contradict each other. A time outside the calendar, which earlier versions
        stored, counts as no time.
        """
        trimmed = int(saved["trimmed"])
        complete_from = read_time(saved["begins"])
        latest_time, dedup_horizon = (read_time(saved.get(key)) for key in ("latest", "horizon"))
        epoch, base_url = saved["epoch"], saved["base_url"]
        if not _EPOCH.fullmatch(epoch):
            raise ValueError("the epoch is no hexadecimal number")
        first, last, max_time = (trimmed + 1, trimmed, None) if rows is None else rows
        if first != trimmed + 1:
            raise ValueError("the first rows are missing")
        if not 0 < first <= last + 1 <= MAX_SEQ:
            raise ValueError("the sequence numbers are out of range")
        self.epoch, self.base_url, self.account_id = epoch, base_url, saved.get("account_id")
        self.first, self.last = first, last
        # The last row has the highest time. The saved one is needed once all rows are trimmed.
        self.latest_time = latest_time if max_time is None else max_time
        self.dedup_horizon = dedup_horizon
        if complete_from is None:
            # The best that is known: trimmed events are at or before the horizon.
            complete_from = max(self.latest_time or 0, dedup_horizon or 0)
        self.complete_from = complete_from
        self.newest_trimmed = _read_trimmed(saved.get("trimmed event"), trimmed)
        self._notes = _read_notes(saved)

    def adopt(self, saved: Mapping[str, str]) -> None:
        """Take over what another process has saved for this same log, except the bounds.

        Each process derives the bounds and the latest time from its own rows.
        """
        if (horizon := read_time(saved.get("horizon"))) is not None:
            self.dedup_horizon = _find_later(self.dedup_horizon, horizon)
        self.account_id = saved.get("account_id")
        self._notes = _read_notes(saved)

    def adopt_bounds(self, saved: Mapping[str, str]) -> None:
        """Take over what the process that trims this same log has saved under TRIM_KEYS.

        This process may have trimmed fewer rows, or more if an outage has delayed the other one.
        """
        complete_from, trimmed = (read_time(saved.get(key)) for key in ("begins", "trimmed"))
        if complete_from is not None:
            if trimmed is None or trimmed < self.first - 1:
                complete_from = max(complete_from, self.complete_from)
            self.complete_from = complete_from
        self.dedup_horizon = read_time(saved.get("horizon"))
        self.newest_trimmed = _read_trimmed(saved.get("trimmed event"), self.first - 1)

    def begin_epoch(self, epoch: str, first: int, now: int, max_time: int | None) -> None:
        """Continue with row number `first` under another epoch.

        `max_time` is the highest time of all earlier events; None if there were none. Both times
        are in microseconds since 1970.
        """
        self.epoch, self.first, self.newest_trimmed = epoch, first, None
        # Positions in the discarded file are invalid. A time up to its newest event must be, too.
        self.complete_from = now if max_time is None else max(now, max_time + 1)
        if max_time is not None:
            # The discarded file held the identities of delivered events. The horizon replaces
            # them. It stays before an open gap, whose missing events are still to be delivered.
            self.dedup_horizon = _find_later(self.dedup_horizon, max_time)
            if (open_since := read_time(self.get_metadata(OPEN_SINCE))) is not None:
                self.dedup_horizon = min(self.dedup_horizon, open_since)

    def begin_gap(self, begin: int | None) -> None:
        """Open a gap, or widen the one that is open; None if its begin is unknown.

        Its events are after the dedup horizon. Some may have been made of orders, so orders are
        compared from its begin on.
        """
        known = self.get_metadata(OPEN_SINCE)
        self.adopt_text(ORDERS_THROUGH, None)
        if begin is None or known == UNKNOWN:
            self.adopt_text(OPEN_SINCE, UNKNOWN)
            return
        if (since := read_time(known)) is not None:
            begin = min(begin, since)
        self.adopt_text(OPEN_SINCE, str(begin))
        if self.dedup_horizon is not None:
            self.dedup_horizon = min(self.dedup_horizon, begin)

    def reset_account(self, base_url: str) -> None:
        """Reset everything but the numbers: what follows is of another account at `base_url`."""
        self.latest_time = self.dedup_horizon = self.account_id = None
        self.base_url = base_url
        self._notes = {}

    def record_trim(self, through: int, newest: TrimmedEvent, max_time: int | None) -> None:
        """Move the bounds behind row `through`, the last that is trimmed. `newest` is its event.

        Trimmed events were delivered, so the dedup horizon moves to their highest time, `max_time`
        (microseconds since 1970).
        """
        self.first = through + 1
        if newest.time is not None and newest.time < self.complete_from:
            # An event that was trimmed earlier may have the same time.
            newest = replace(newest, time=None)
        self.newest_trimmed = newest
        if max_time is not None:
            self.complete_from = max(self.complete_from, max_time + 1)
            self.dedup_horizon = _find_later(self.dedup_horizon, max_time)


def _encode_trimmed(event: TrimmedEvent | None) -> str | None:
    return None if event is None else json.dumps(astuple(event))


def _read_trimmed(text: str | None, trimmed: int) -> TrimmedEvent | None:
    """Return the trimmed event; None if there is none, or if an older version has trimmed since."""
    try:
        match json.loads(text or "null"):
            case [int(seq), str(identity), time] if seq == trimmed:
                return TrimmedEvent(seq, identity, time if is_time(time) else None)
    except (ValueError, RecursionError):
        pass
    return None


def _find_later(known: int | None, time: int) -> int:
    return time if known is None else max(known, time)


def _read_notes(saved: Mapping[str, str]) -> dict[str, str | None]:
    """Return the stored texts by key, without those that this program cannot have stored.

    Those who store a text check what it says. If the beginning of an open gap cannot be read, it
    is UNKNOWN: the gap must not be forgotten. A number outside the calendar, which earlier versions
    stored, stays and counts as no time.
    """
    notes: dict[str, str | None] = {}
    for key, value in saved.items():
        is_ours = key.isascii() and value.isascii() and len(value) <= MAX_NOTE
        if key.startswith(REMEMBERED) and is_ours and len(notes) < MAX_NOTES:
            notes[key.removeprefix(REMEMBERED)] = value
    since = saved.get(REMEMBERED + OPEN_SINCE)
    if since is not None and not _NUMBER.fullmatch(since):
        notes[OPEN_SINCE] = UNKNOWN
    return notes


def read_time(text: str | None) -> int | None:
    """Return a stored time (microseconds since 1970); None if it is none, or outside the calendar.

    Python's int() raises ValueError for a number of over 4,300 digits too.
    """
    try:
        time = int(text or "")
    except ValueError:
        return None
    return time if is_time(time) else None


def read_assignments(text: str | None) -> dict[str, str]:
    """Return the orders and strategies of ASSIGNMENTS; none if the proxy did not write the text."""
    try:
        return _ASSIGNMENTS.decode(text or "{}")
    except MsgspecError:
        return {}
