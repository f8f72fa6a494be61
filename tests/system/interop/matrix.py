"""The results as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.system.interop.clients import Column, InteropClient
from tests.system.interop.scenario import ScenarioOutcome


def cell(outcome: ScenarioOutcome, column: Column) -> str:
    """Return a cell: `yes`, `no` or `n/a (reason)`; a star marks a footnote."""
    client = outcome.client
    if reason := _not_applicable(client, column):
        return f"n/a ({reason})"
    star = "*" if column in client.remarks else ""
    return f"{'no' if failed(outcome, column) else 'yes'}{star}"


def failed(outcome: ScenarioOutcome, column: Column) -> bool:
    """Return whether a client failed in a column; a column that was not reached counts."""
    if _not_applicable(outcome.client, column):
        return False
    return outcome.problems.get(column, "not reached") != ""


def unexplained(outcome: ScenarioOutcome) -> list[Column]:
    """Return the columns with `no` and without a footnote."""
    return [c for c in Column if failed(outcome, c) and c not in outcome.client.remarks]


def lines(
    outcomes: Sequence[ScenarioOutcome], skipped: Sequence[tuple[InteropClient, str]]
) -> Iterator[str]:
    """Yield the lines of the table, the footnotes, the skipped clients and the problems."""
    rows = [["client", *(column.value for column in Column)]]
    rows += [
        [outcome.client.name, *(cell(outcome, column) for column in Column)] for outcome in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    for outcome in outcomes:
        for column, remark in outcome.client.remarks.items():
            yield f"* {outcome.client.name}, {column.value}: {remark}"
    for client, reason in skipped:
        yield f"skipped: {client.name}: {reason}"
    for outcome in outcomes:
        problems = {column: problem for column, problem in outcome.problems.items() if problem}
        for column, problem in problems.items():
            yield f"\n{outcome.client.name}, {column.value}: {problem}"
        if problems:
            yield outcome.evidence


def _not_applicable(client: InteropClient, column: Column) -> str:
    if column in client.not_applicable:
        return client.not_applicable[column]
    return "it cannot resume" if column is Column.RESUMES and not client.resumes else ""
