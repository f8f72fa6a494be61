"""The settings of the journals: in which directory they are, how safely they are written, how long kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tradeproxy.config.env import Environment

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """`directory` None keeps the journals in no file; `source` is the variable that gave it, for messages.

    With `full_sync` an event survives a power cut, without it only a crash of the process. Events are kept
    for `max_age` seconds, and at most `max_events` an account.
    """

    directory: Path | None = None
    source: str = "PROXY_DATA_DIR"
    full_sync: bool = True
    max_age: float = 7 * DAY
    max_events: int = 1_000_000

    def path(self, account: str) -> Path | None:
        """Return the file of an account's journal."""
        return None if self.directory is None else self.directory / f"{account}.sqlite3"


def read_journal(env: Environment, *, in_memory: bool) -> JournalSettings:
    """Read them; what is wrong is noted in the environment's findings."""
    default = JournalSettings()
    source, directory = "PROXY_DATA_DIR", None
    if in_memory:
        env.warn_unused(("PROXY_DATA_DIR",), "by the demo, which forgets everything at its end")
    elif redis := env.source("PROXY_REDIS_URL"):
        reason = f"since {redis} is set: the events are kept in Redis"
        env.warn_unused(("PROXY_DATA_DIR", "PROXY_JOURNAL_SYNC"), reason)
    else:
        source, directory = _directory(env)
    return JournalSettings(
        directory=directory,
        source=source,
        full_sync=env.parsed("PROXY_JOURNAL_SYNC", _full_sync, default.full_sync),
        max_age=env.parsed("PROXY_JOURNAL_DAYS", _days, default.max_age),
        max_events=env.parsed("PROXY_JOURNAL_EVENTS", _count, default.max_events),
    )


def _directory(env: Environment) -> tuple[str, Path | None]:
    """Choose where state is kept: as told, where systemd says, or where the XDG specification does."""
    if text := env.get("PROXY_DATA_DIR"):
        return "PROXY_DATA_DIR", env.directory / re.sub(r"\A~(?=/|\Z)", lambda _: str(_home(env)), text)
    if text := env.get("STATE_DIRECTORY"):
        return "STATE_DIRECTORY", Path(text.split(":")[0])
    state = Path(env.get("XDG_STATE_HOME") or "")
    if state.is_absolute():  # a relative one is to be ignored, says the specification
        return "PROXY_DATA_DIR", state / "tradeproxy"
    return "PROXY_DATA_DIR", _home(env) / ".local/state/tradeproxy"


def _home(env: Environment) -> Path:
    try:
        return Path(env.get("HOME") or Path.home())
    except RuntimeError:  # as in a container whose user has no entry in /etc/passwd
        env.findings.problem("PROXY_DATA_DIR: not set, and there is no home directory either")
        return env.directory


def _full_sync(text: str) -> bool:
    if text not in ("full", "normal"):
        raise ValueError(f"{text!r} is neither full nor normal")
    return text == "full"


def _days(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,9})?", text) and float(text) > 0:
        return float(text) * DAY
    raise ValueError(f"{text!r} is not a number of days (more than 0)")


def _count(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,12}", text) and int(text) >= 1:
        return int(text)
    raise ValueError(f"{text!r} is not a whole number (1 or more)")
