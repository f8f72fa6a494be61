"""What the operator sees of a client: who it says it is, since when it is here, how far behind."""

from __future__ import annotations

import sys
from typing import NamedTuple

LONGEST_AGENT = 80
"""Characters; browsers' are longer, and what tells them apart is at their beginning and end."""


class Visit(NamedTuple):
    """What stays the same of a client."""

    user_agent: str
    dialect: str
    since: float
    """Unix time."""


class Standing(NamedTuple):
    """How a client stands. They sort by what is wrong: those that don't read, then those furthest behind."""

    is_slow: bool
    """Whether it does not read, so that more than its socket takes waits for it."""
    lag: int
    """How many events of the log have not been handed to its socket."""
    account: str
    peer: str
    visit: Visit


def user_agent(header: bytes | None) -> str:
    """Return what a client calls itself, bounded and printable; thousands that say the same share it."""
    text = (header or b"").decode(errors="replace")
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
    if len(text) > LONGEST_AGENT:
        half = LONGEST_AGENT // 2
        text = f"{text[: half - 1]}…{text[-half:]}"
    return sys.intern(text)
