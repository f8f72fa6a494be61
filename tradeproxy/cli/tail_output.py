"""What `tradeproxy tail` shows: events as columns or as JSON, and what is said of the stream itself."""

from __future__ import annotations

from datetime import date, datetime
from shutil import get_terminal_size
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

from tradeproxy.cli.terminal import Style, cut, escape_unprintable, fit, has_colour, paint
from tradeproxy.cli.times import format_local_time, parse_local_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tradeproxy.client import Update
    from tradeproxy.client.resume import StatusData

WIDE = 110
"""Columns of a terminal from which on an option's symbol (OCC's, 21 characters) has room."""

STYLES = {
    "fill": Style.GREEN,
    "partial_fill": Style.GREEN,
    "new": Style.CYAN,
    "accepted": Style.CYAN,
    "canceled": Style.YELLOW,
    "expired": Style.YELLOW,
    "replaced": Style.YELLOW,
    "rejected": Style.RED,
    "order_cancel_rejected": Style.RED,
    "order_replace_rejected": Style.RED,
}

NARROW_CELLS = {
    "time": 12,
    "event": 14,
    "side": 4,
    "qty": 9,
    "symbol": 9,
    "price": 10,
    "status": 16,
}
WIDE_CELLS = NARROW_CELLS | {"qty": 14, "symbol": 21, "price": 12}
FILE_CELLS = WIDE_CELLS | {"time": 23, "event": 22, "qty": 18, "price": 18}
"""How wide each column is: in a narrow terminal, in a wide one, and where there is none."""

NUMBERS = {"qty", "price"}


REPEAT_AFTER = 60.0
"""Seconds after which it is said again that there is no connection yet."""


class JsonLines:
    """The raw data of each event; on a terminal it cannot steer that."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()

    def show(self, update: Update) -> None:
        """Write one line."""
        text = update.raw.decode()
        self._out.write(f"{escape_unprintable(text) if self._is_terminal else text}\n")
        self._out.flush()


class Table:
    """Columns that stay where they are, whatever comes; the last one takes what room there is."""

    def __init__(self, out: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self._colour = has_colour(out, environ)
        self._is_terminal = out.isatty()
        self._day: date | None = None
        self._cells = FILE_CELLS
        if self._is_terminal:
            self._cells = WIDE_CELLS if get_terminal_size().columns >= WIDE else NARROW_CELLS
            self._write(self._line({name: name for name in self._cells}, "order"), Style.BOLD)

    def show(self, update: Update) -> None:
        """Write one line, on a terminal beneath one with the day if that is another."""
        try:
            texts = read_cells(update.data)
        except (ValueError, RecursionError):
            texts = {"event": "unreadable"}
        texts["time"] = self._time(texts.get("at", ""))
        mark = "" if update.recovered is None else f"[recovered: {update.recovered}] "
        style = STYLES.get(texts.get("event", ""), Style.PLAIN)
        self._write(self._line(texts, mark + texts.get("order", "")), style)

    def _time(self, text: str) -> str:
        moment = parse_local_time(text)
        if moment is None:
            return text
        time = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
        if not self._is_terminal:
            return f"{moment:%Y-%m-%d} {time}"
        if moment.date() != self._day:
            self._day = moment.date()
            self._write(f"{moment:%Y-%m-%d}", Style.DIM)
        return time

    def _line(self, texts: Mapping[str, str], rest: str) -> str:
        fitted = (
            fit(texts.get(name, ""), n, right=name in NUMBERS) for name, n in self._cells.items()
        )
        return " ".join([*fitted, escape_unprintable(rest)]).rstrip()

    def _write(self, line: str, style: Style) -> None:
        if self._is_terminal:  # a line that wraps would break the columns
            line = cut(line, get_terminal_size().columns)
        self._out.write(f"{paint(line, style, self._colour)}\n")
        self._out.flush()


def read_cells(data: Any) -> dict[str, str]:
    """Return what each column shows of an event: of a fill its own quantity and price, else the order's."""
    data = data if isinstance(data, dict) else {}
    order = data.get("order")
    order = order if isinstance(order, dict) else {}
    price = data.get("price") or order.get("limit_price") or order.get("stop_price")
    found = {
        "at": data.get("at") or data.get("timestamp"),
        "event": data.get("event"),
        "side": order.get("side"),
        "qty": data.get("qty") or order.get("qty") or order.get("notional"),
        "symbol": order.get("symbol") or order.get("order_class"),
        "price": price,
        "status": order.get("status"),
        "order": order.get("client_order_id") or order.get("id"),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


class Notices:
    """What the proxy and the client say of themselves, dimmed, on standard error."""

    def __init__(
        self, err: TextIO, environ: Mapping[str, str], seconds: Callable[[], float] = monotonic
    ) -> None:
        self._err = err
        self._colour = has_colour(err, environ)
        self._is_terminal = err.isatty()
        self._seconds = seconds
        self._trouble: object = None
        self._told = 0.0
        self._gaps: dict[object, object] | None = None

    def show_status(self, status: StatusData) -> None:
        """Say what a status frame means; one trouble is told once a minute, however many attempts meet it."""
        trouble = status.get("reason") if status.get("event") == "connection" else None
        now = self._seconds()
        if trouble is None or trouble != self._trouble or now - self._told >= REPEAT_AFTER:
            self._told = now
            for line in format_status(status):
                self.write(line)
        self._trouble = trouble
        match status:
            case {"event": "hello", "gaps": [*gaps]}:
                self._look_at(gaps)
            case {"event": "gap", "begin": begin, "outcome": outcome} if self._gaps is not None:
                self._gaps[begin] = outcome

    def _look_at(self, gaps: Sequence[StatusData]) -> None:
        """Tell of the gaps that came, or ended, while there was no connection; at first of open ones only."""
        known = self._gaps
        self._gaps = {gap.get("begin"): gap.get("outcome") for gap in gaps}
        for gap in gaps:
            outcome = gap.get("outcome")
            news = (
                outcome in ("pending", "open")
                if known is None
                else known.get(gap.get("begin")) != outcome
            )
            if news:
                for line in format_status({"event": "gap", **gap}):
                    self.write(line)

    def write(self, line: str) -> None:
        """Write one line, beneath the time."""
        text = escape_unprintable(f"{datetime.now().astimezone():%H:%M:%S}     {line}")
        text = cut(text, get_terminal_size().columns) if self._is_terminal else text
        self._err.write(f"{paint(text, Style.DIM, self._colour)}\n")
        self._err.flush()


def format_status(status: StatusData) -> list[str]:
    """Return the lines that a status frame is worth: of a hello, what is wrong."""
    match status:
        case {"event": "hello", "upstream": {} as upstream, "journal": {} as journal}:
            down = (
                format_status({"event": "upstream", **upstream})
                if upstream.get("state") != "up"
                else []
            )
            full = (
                format_status({"event": "journal", **journal})
                if journal.get("state") != "durable"
                else []
            )
            return [*down, *full]
        case {"event": "connection", "state": "up"}:
            return ["connected to the proxy"]
        case {"event": "connection", "reason": reason, "retry_in": seconds}:
            return [f"no connection to the proxy, next attempt {_in(seconds)}: {reason}"]
        case {"event": "upstream" | "journal" as what, "state": state}:
            return [_with_reason(f"{what} {state}", status)]
        case {"event": "gap", "end": None, "begin": begin}:
            return [f"gap: begins at {format_local_time(begin)}"]
        case {"event": "gap", "outcome": outcome, "begin": begin, "events": events}:
            return [
                _with_reason(
                    f"gap: {outcome}, {events} events since {format_local_time(begin)}", status
                )
            ]
    return []


def _in(seconds: float) -> str:
    return f"in {seconds:.0f} s" if seconds >= 1 else "now"


def _with_reason(text: str, status: StatusData) -> str:
    reason = status.get("reason")
    return f"{text}: {reason}" if reason else text
