"""Verdicts on a cluster run, beyond those on each client that resumes; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from tests.system.chaos.checker import COUNTS, ClientLog, ReceivedEvent, Truth, Verdict, judge
from tests.system.cluster.alpaca import Overlap

GRACE = 4.0
"""Seconds after the end of a pause in which a node must disconnect: two of them to close."""

MAX_SILENCE = 15.0
"""Seconds for which a client that changes nodes may get nothing."""


class LogLine(NamedTuple):
    """An event in the log."""

    epoch: str
    seq: int
    number: int
    recovered: str | None


def judge_live_only(log: ClientLog, truth: Truth) -> Verdict:
    """Judge a client that does not resume: each connection, from its first event on.

    An event on two connections counts as repeated: after a loss of the log it is sent again.
    """
    numbers = {entry.connection for entry in log.entries}
    verdicts = [
        _judge_connection(_select_connection(log, connection), truth)
        for connection in sorted(numbers)
    ]
    counts = {name: sum(getattr(verdict, name) for verdict in verdicts) for name in COUNTS}
    distinct = len({entry.number for entry in log.entries})
    counts |= {"received": distinct, "repeated": counts["received"] - distinct}
    return Verdict(
        log.name, **counts, breaches=[it for verdict in verdicts for it in verdict.breaches]
    )


def _select_connection(log: ClientLog, connection: int) -> ClientLog:
    return replace(log, entries=[entry for entry in log.entries if entry.connection == connection])


def _judge_connection(log: ClientLog, truth: Truth) -> Verdict:
    numbers = [entry.number for entry in log.entries if entry.recovered is None]
    span = range(min(numbers), max(numbers) + 1) if numbers else range(0)
    between = {number: time for number, time in truth.emitted.items() if number in span}
    return judge(log, replace(truth, emitted=between))


def judge_log(name: str, lines: Sequence[LogLine], truth: Truth) -> Verdict:
    """Judge the log from its first event on: numbers are consecutive, each event is there once."""
    entries = [ReceivedEvent(line.number, line.recovered) for line in lines]
    verdict = _judge_connection(ClientLog(name, entries=entries), truth)
    numbers = [line.seq for line in lines]
    holes = sum(after != before + 1 for before, after in pairwise(numbers))
    epochs = len({line.epoch for line in lines})
    return replace(verdict, disorder=verdict.disorder + holes + max(epochs - 1, 0))


def find_unexplained(
    verdict: Verdict, truth: Truth, losses: Sequence[tuple[float, float]]
) -> list[int]:
    """Return the events that were declared lost without a gap or a loss of Redis as the cause.

    Up to MAX_SILENCE before that loss the client may have been at a paused node, or without Redis.
    Up to MAX_SILENCE after it the client may have found that its position is gone: Redis may have
    been away again.
    """
    return [
        number
        for number in verdict.excused
        if not any(gap.begin <= truth.emitted[number] <= gap.end for gap in truth.gaps)
        and not any(
            begin - MAX_SILENCE <= truth.emitted[number] <= end + MAX_SILENCE
            for begin, end in losses
        )
    ]


def find_unexcused(
    overlaps: Sequence[Overlap],
    pauses: Mapping[str, Sequence[tuple[float, float | None]]],
    now: float,
) -> list[Overlap]:
    """Return overlaps not caused by a paused older leader, or that lasted too long after it.

    `pauses` has the pauses of each node, by its key; `now` is in monotonic seconds.
    """
    return [overlap for overlap in overlaps if not _is_excused(overlap, pauses, now)]


def _is_excused(
    overlap: Overlap, pauses: Mapping[str, Sequence[tuple[float, float | None]]], now: float
) -> bool:
    over = min(record.ended or now for record in (overlap.older, overlap.newer))
    for begin, end in pauses.get(overlap.older.key, ()):
        if begin <= overlap.begin <= (end or now) and over <= (end or now) + GRACE:
            return True
    return False
