"""Events that could not be stored, and Alpaca's history, which has them, against the simulator."""

from __future__ import annotations

from tests.recovery.recovery_case import INTERVAL, RecoveryTestCase
from tests.support.journals import Connections, memory_journal
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.runtime.dates import Dates
from tradeproxy.wire.event import format_time


class HoleTests(RecoveryTestCase):
    """The backfill and the checks bring no event of a hole again."""

    def new_journal(self) -> SqliteJournal:
        self.disk = Connections()
        dates = Dates(self.clock.seconds, self.proxy_clock.seconds)
        return memory_journal(self.proxy_clock, dates=dates, connect=self.disk)

    def emit_large(self, *numbers: int) -> None:
        """Emit events of which the backlog has room for eighteen."""
        for n in numbers:
            at = format_time(round(self.clock.seconds() * 1_000_000))
            order = {"id": f"order {n}", "status": "new", "filled_qty": "0"}
            note = "x" * 900_000
            self.alpaca.emit(
                {"at": at, "event_id": f"{n}", "event": "new", "n": n, "order": order, "x": note}
            )
            self.advance(1)

    def test_events_of_hole_are_delivered_once(self) -> None:
        """Connected clients got them at every check: eight times in a run.

        The checks go on during the failure and after it, and so do backfills after reconnects.
        """
        self.disk.refuse_writing()
        self.emit_large(*range(1, 25))
        self.assertEqual(self.journal.next_hole(0), 20)
        self.advance(2 * INTERVAL)
        self.outage(lambda: None)
        self.advance(INTERVAL)
        self.disk.refuse_writing(False)
        self.emit(25)
        self.advance(2 * INTERVAL)
        self.outage(lambda: self.emit(26))
        self.advance(INTERVAL)
        self.assertEqual(self.delivered(), [(n, None) for n in range(27)])
        self.assertTrue(self.journal.status.durable)
