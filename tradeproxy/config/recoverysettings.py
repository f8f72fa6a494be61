"""The settings of the recovery: whether and how what the stream did not bring is asked of Alpaca."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class RecoveryMode(Enum):
    """What Alpaca is asked for after an outage."""

    AUTO = "auto"
    """The history of events; where that is refused, the orders and the fills."""
    EVENTS = "events"
    """The history of events only: nothing that Alpaca did not say is ever told."""
    OFF = "off"
    """Nothing: what was missed is lost."""


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """How the recovery goes about it.

    For `deadline` seconds after the stream's return newer events wait for the missed ones; every
    `reconcile_interval` seconds of a healthy stream it is checked that nothing was missed.
    """

    mode: RecoveryMode = RecoveryMode.AUTO
    deadline: float = 5.0
    reconcile_interval: float = 900.0
