"""The results as a table in Markdown, and the tables in the documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap

from tests.support.processes import SOURCES
from tests.system.interop.clients import Column, InteropClient
from tests.system.interop.scenario import ScenarioOutcome

DOCS = SOURCES / "docs"
DRIVERS = "../tests/system/interop/drivers"

TABLE = re.compile(r"(?<=<!-- written by `make interop` -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)
"""The table of a document, and its footnotes."""

NOT_RUN = "not run"
COLUMNS = 100


def document(client: InteropClient) -> Path:
    """Return the document that has the client's row."""
    return DOCS / ("reverse-proxy.md" if client.front else "clients.md")


def first_cell(client: InteropClient) -> str:
    """Return the cell with the client's name, a link to its program."""
    return f"[{client.name}]({DRIVERS}/{client.driver})"


def cell(outcome: ScenarioOutcome, column: Column) -> str:
    """Return a cell: `yes`, `no` or `n/a`; a star marks a footnote."""
    if column is Column.RESUMES and not outcome.client.resumes:
        return "n/a"
    star = r"\*" if column in outcome.client.remarks else ""
    return f"{'no' if failed(outcome, column) else 'yes'}{star}"


def cells(outcome: ScenarioOutcome) -> list[str]:
    """Return the cells with a client's results."""
    return [cell(outcome, column) for column in Column]


def row(client: InteropClient, results: Sequence[str]) -> str:
    """Return a client's row."""
    return f"| {' | '.join([first_cell(client), *results, client.needs])} |"


def failed(outcome: ScenarioOutcome, column: Column) -> bool:
    """Return whether a client failed in a column; a column that was not reached counts."""
    if column is Column.RESUMES and not outcome.client.resumes:
        return False
    return outcome.problems.get(column, "not reached") != ""


def unexplained(outcome: ScenarioOutcome) -> list[Column]:
    """Return the columns with `no` and without a footnote."""
    return [c for c in Column if failed(outcome, c) and c not in outcome.client.remarks]


def table_lines(
    clients: Sequence[InteropClient], results: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield the table and its footnotes.

    clients: the clients, in order.
    results: the cells with results by first cell; a client without them was not run.
    """
    names = ["client", *(column.value for column in Column), "needs"]
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"
    for client in clients:
        yield row(client, results.get(first_cell(client), [NOT_RUN] * len(Column)))
    remarks = [
        f"- \\*{client.name}: {remark}"
        for client in clients
        for remark in dict.fromkeys(client.remarks.values())
    ]
    if remarks:
        yield ""
    for remark in remarks:
        yield from wrap(remark, COLUMNS, subsequent_indent="  ", break_on_hyphens=False)


def read_results(text: str) -> dict[str, list[str]]:
    """Return the cells with results of a document's table by first cell."""
    found = TABLE.search(text)
    rows = [line.removeprefix("| ").split(" | ") for line in found[0].splitlines()] if found else []
    return {name: cells[: len(Column)] for name, *cells in rows if "](" in name}


def problem_lines(outcome: ScenarioOutcome) -> Iterator[str]:
    """Yield what a client did wrong, and the last output of the driver and the proxy."""
    problems = {column: problem for column, problem in outcome.problems.items() if problem}
    for column, problem in problems.items():
        yield f"\n{outcome.client.name}, {column.value}: {problem}"
    if problems:
        yield outcome.evidence


def write(clients: Sequence[InteropClient], outcome: ScenarioOutcome) -> None:
    """Put the row of `outcome` into its document; the rows of the other `clients` stay."""
    path = document(outcome.client)
    text = path.read_text(encoding="utf-8")
    found = TABLE.search(text)
    assert found is not None, path
    results = read_results(text) | {first_cell(outcome.client): cells(outcome)}
    mine = [client for client in clients if document(client) == path]
    table = "\n".join(table_lines(mine, results))
    path.write_text(text[: found.start()] + table + text[found.end() :], encoding="utf-8")


def find_difference(outcome: ScenarioOutcome) -> Iterator[str]:
    """Yield a line if the document does not have the row of `outcome`."""
    path, new = document(outcome.client), row(outcome.client, cells(outcome))
    if new not in path.read_text(encoding="utf-8").splitlines():
        yield f"{path.name} does not have this row: {new}"
