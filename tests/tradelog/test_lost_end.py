"""The trade log of a node whose log in Redis loses its end."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from tests.support.nodes import LEASE_KEY, NodesCase
from tradeproxy.config.trade_log import TradeLogFormat
from tradeproxy.tradelog.day_files import DayFiles
from tradeproxy.tradelog.lines import LineFormat
from tradeproxy.tradelog.service import TradeLogService


class LostEndTests(NodesCase):
    """Event 2 is in the file, and no longer in the log."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.start_node()
        self.directory = Path(self.mktemp())
        self.directory.mkdir(mode=0o700)
        self.disk: Deferred[None] | None = None
        """While it is not None, the disk waits for it."""
        line_format = LineFormat("paper", TradeLogFormat.CSV)
        files = DayFiles(self.directory, "paper", line_format)
        clock: Any = self.clock
        service = TradeLogService(self.node.account, files, line_format, clock, self.in_thread)
        service.startService()
        self.addCleanup(files.close)
        self.publish(1)
        self.dump = self.redis.dump()

    def in_thread(self, work: Any) -> Deferred[Any]:
        if self.disk is None:
            return maybeDeferred(work)
        return self.disk.addCallback(lambda _: work())

    def lose_end(self) -> None:
        """Restart Redis with the log as it was after event 1; the node leads again."""
        self.node.cut()
        lease = self.redis.dump()[LEASE_KEY.encode()]
        self.redis.roll_back(self.dump | {LEASE_KEY.encode(): lease})
        self.node.restore()
        self.advance(15)
        self.assertTrue(self.node.is_leader)
        self.assertEqual(self.node.journal.last, 1)

    def publish(self, number: int) -> None:
        """Receive an event, and let it be written."""
        self.node.publish(number)
        self.advance(3)

    def read_numbers(self) -> list[int]:
        """Return the numbers of the events in the files."""
        rows: list[dict[str, str]] = []
        for path in sorted(self.directory.glob("paper-*.csv")):
            with path.open(newline="") as file:
                rows += csv.DictReader(file)
        return [int(row["order_id"][-12:]) for row in rows]

    def test_lost_event_that_comes_again_is_written_once(self) -> None:
        """A backfill finds it. It has its number again, and so its cursor, which the file has."""
        self.publish(2)
        self.lose_end()
        self.publish(2)
        self.publish(3)
        self.assertEqual(self.read_numbers(), [1, 2, 3])

    def test_event_with_the_number_of_a_lost_one_is_written(self) -> None:
        """The line of the lost one stays: it was delivered."""
        self.publish(2)
        self.lose_end()
        self.publish(3)
        self.publish(4)
        self.assertEqual(self.read_numbers(), [1, 2, 3, 4])

    def test_loss_while_the_disk_is_slow_is_noticed(self) -> None:
        """The node leads again when the write ends, which continued behind the lost number."""
        slow = self.disk = Deferred()
        self.publish(2)
        self.lose_end()
        self.disk = None
        slow.callback(None)
        self.publish(3)
        self.publish(4)
        self.assertEqual(self.read_numbers(), [1, 2, 3, 4])
