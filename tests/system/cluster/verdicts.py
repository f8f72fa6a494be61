"""Whether a cluster kept its promises, beyond those to each client that resumes; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from tests.system.chaos.checker import COUNTS, Entry, Log, Truth, Verdict, judge
from tests.system.cluster.alpaca import Overlap

GRACE = 4.0
"""Seconds in which a node that has been woken must have let go of the stream: two of them for the goodbye."""

LONGEST_SILENCE = 15.0
"""Seconds for which a client that hops may hear of nothing."""


class Line(NamedTuple):
    """An event as the log has it."""

    epoch: str
    seq: int
    number: int
    recovered: str | None


def judge_stays(log: Log, truth: Truth) -> Verdict:
    """Judge a client that does not resume: each of its connections by itself, from the first event on it.

    What it got twice on different connections is repeated: where a log was lost, others are told it again.
    """
    numbers = {entry.connection for entry in log.entries}
    verdicts = [_judge_stay(_of(log, connection), truth) for connection in sorted(numbers)]
    counts = {name: sum(getattr(verdict, name) for verdict in verdicts) for name in COUNTS}
    distinct = len({entry.number for entry in log.entries})
    counts |= {"received": distinct, "repeated": counts["received"] - distinct}
    return Verdict(
        log.name, **counts, breaches=[it for verdict in verdicts for it in verdict.breaches]
    )


def _of(log: Log, connection: int) -> Log:
    return replace(log, entries=[entry for entry in log.entries if entry.connection == connection])


def _judge_stay(log: Log, truth: Truth) -> Verdict:
    told = [entry.number for entry in log.entries if entry.recovered is None]
    span = range(min(told), max(told) + 1) if told else range(0)
    between = {number: time for number, time in truth.emitted.items() if number in span}
    return judge(log, replace(truth, emitted=between))


def judge_log(name: str, lines: Sequence[Line], truth: Truth) -> Verdict:
    """Judge the log itself, from its first event on: its numbers count up, and each event is there once."""
    entries = [Entry(line.number, line.recovered) for line in lines]
    verdict = _judge_stay(Log(name, entries=entries), truth)
    numbers = [line.seq for line in lines]
    holes = sum(after != before + 1 for before, after in pairwise(numbers))
    epochs = len({line.epoch for line in lines})
    return replace(verdict, disorder=verdict.disorder + holes + max(epochs - 1, 0))


def unexplained(verdict: Verdict, truth: Truth, losses: Sequence[tuple[float, float]]) -> list[int]:
    """Return the events that were declared though neither a gap nor a loss of Redis' explains it.

    Before that loss the client may have been at a node that was stopped, or away from Redis with all others.
    """
    return [
        number
        for number in verdict.excused
        if not any(gap.begin <= truth.emitted[number] <= gap.end for gap in truth.gaps)
        and not any(
            begin - LONGEST_SILENCE <= truth.emitted[number] <= end for begin, end in losses
        )
    ]


def unexcused(
    overlaps: Sequence[Overlap],
    pauses: Mapping[str, Sequence[tuple[float, float | None]]],
    now: float,
) -> list[Overlap]:
    """Return where two held the stream at once though the older was not stopped, or held on too long after.

    `pauses` are by the key of the node.
    """
    return [overlap for overlap in overlaps if not _is_excused(overlap, pauses, now)]


def _is_excused(
    overlap: Overlap, pauses: Mapping[str, Sequence[tuple[float, float | None]]], now: float
) -> bool:
    over = min(visit.ended or now for visit in (overlap.older, overlap.newer))
    for begin, end in pauses.get(overlap.older.key, ()):
        if begin <= overlap.begin <= (end or now) and over <= (end or now) + GRACE:
            return True
    return False
