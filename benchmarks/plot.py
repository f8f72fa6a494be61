"""Draws the results as a bar chart in SVG, without a library.

python -m benchmarks.plot [--clients N] [--figure NAME] [--input FILE] [--output FILE]

The figures are those of benchmarks.bench, and first_p50_us, last_p50_us and cpu_us of .latency.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import latency
from benchmarks.bench import RESULTS
from benchmarks.lab import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

CAPTIONS = {
    "single_cpu_us": "server's CPU for one event to one client, µs (one event at a time)",
    "burst_cpu_us": "server's CPU for one event to one client, µs (16 events at a time)",
    "single_last_p50_ms": "until the last client has an event, ms, median",
    "single_deliveries_per_second": "deliveries a second, one event at a time",
    "burst_deliveries_per_second": "deliveries a second, 16 events at a time",
    "handshakes_per_second": "clients connected a second",
    "client_kb": "memory a client, KB",
}
LATENCY_CAPTIONS = {
    "first_p50_us": "from Alpaca's write until the first client has the event, µs, p50",
    "last_p50_us": "from Alpaca's write until the last client has the event, µs, p50",
    "cpu_us": "server's CPU for one event, µs",
}
WIDTH, NAME_WIDTH, VALUE_WIDTH, BAR, GAP, MARGIN = 860, 230, 120, 18, 8, 16
OWN, OTHER = "#1f6feb", "#9aa4b2"


def bars(values: Sequence[tuple[str, float, float, float]], title: str, caption: str) -> str:
    """Return an SVG with a bar for each median and a whisker from the lowest to the highest value.

    `values` has a name, the median, the lowest and the highest value of each server.
    """
    top = 64
    height = top + len(values) * (BAR + GAP) + MARGIN
    bar_width = WIDTH - NAME_WIDTH - VALUE_WIDTH - MARGIN
    scale = bar_width / max((most for *_, most in values), default=1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13" fill="#24292f">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{MARGIN}" y="26" font-size="16" font-weight="bold">{escape(title)}</text>',
        f'<text x="{MARGIN}" y="46">{escape(caption)}</text>',
    ]
    for row, (name, middle, least, most) in enumerate(values):
        y = top + row * (BAR + GAP)
        text, center = y + BAR - 5, y + BAR / 2
        colour = OWN if name.startswith("tradeproxy") else OTHER
        lines += [
            f'<text x="{NAME_WIDTH - 8}" y="{text}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{NAME_WIDTH}" y="{y}" width="{middle * scale:.1f}" height="{BAR}" '
            f'fill="{colour}"/>',
            f'<path d="M{NAME_WIDTH + least * scale:.1f} {center}H{NAME_WIDTH + most * scale:.1f}" '
            'stroke="#24292f"/>',
            f'<text x="{NAME_WIDTH + most * scale + 6:.1f}" y="{text}">'
            f"{_format_value(middle)}</text>",
        ]
    return "\n".join([*lines, "</svg>", ""])


def _format_value(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def collect(runs: Sequence[dict[str, Any]], figure: str) -> list[tuple[str, float, float, float]]:
    """Return for every server its name and the median, lowest and highest value of a figure."""
    rounds: dict[str, list[float]] = {}
    for result in runs:
        if "figures" in result:
            rounds.setdefault(result["server"], []).append(result["figures"][figure])
    return [(name, median(values), min(values), max(values)) for name, values in rounds.items()]


def draw_fan_out(runs: Sequence[dict[str, Any]], clients: int, figure: str) -> str:
    """Return the chart of a figure of benchmarks.bench with one number of clients."""
    values = collect([each for each in runs if each["clients"] == clients], figure)
    return bars(values, f"One event to {clients:,} clients", CAPTIONS[figure])


def draw_latency(runs: Sequence[dict[str, Any]], figure: str) -> str:
    """Return the chart of a figure of benchmarks.latency, at its usual rate of events."""
    values = [
        (f"{name}, {clients}", middle, least, most)
        for clients in latency.CLIENTS
        for name, middle, least, most in collect(
            [each for each in runs if each.get("case") == str(latency.Case(clients))], figure
        )
    ]
    *first, last = map(str, latency.CLIENTS)
    title = f"One event to {', '.join(first)} and {last} clients"
    return bars(values, title, LATENCY_CAPTIONS[figure])


def main() -> None:
    """Draw one figure of the results."""
    parser = ArgumentParser(description="Draw the results of benchmarks.bench or .latency.")
    parser.add_argument("--input", type=Path, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE")
    parser.add_argument("--clients", type=int, default=1_000, metavar="N", help="for .bench")
    parser.add_argument("--figure", choices=[*CAPTIONS, *LATENCY_CAPTIONS], default="single_cpu_us")
    arguments = parser.parse_args()
    if arguments.figure in LATENCY_CAPTIONS:
        runs = read_runs(arguments.input or latency.RESULTS)
        chart = draw_latency(runs, arguments.figure)
        output = arguments.output or ROOT / "docs/latency.svg"
    else:
        runs = read_runs(arguments.input or RESULTS)
        chart = draw_fan_out(runs, arguments.clients, arguments.figure)
        output = arguments.output or RESULTS.with_suffix(".svg")
    output.write_text(chart)
    print(output)


def read_runs(path: Path) -> list[dict[str, Any]]:
    """Return the runs in a file of results."""
    runs: list[dict[str, Any]] = json.loads(path.read_text())["runs"]
    return runs


if __name__ == "__main__":
    main()
