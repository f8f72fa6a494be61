"""Tests for tradeproxy.tradelog.service: what is in the files, through every kind of trouble."""

from __future__ import annotations

import errno
import json
import os
import shutil

from msgspec.structs import replace

from tests.support.journals import Connections, event, order_id_of
from tests.tradelog.trade_log_case import DAY_OF_EVENTS, TradeLogCase
from tradeproxy.config.trade_log import TradeLogFormat
from tradeproxy.hub.account import Account
from tradeproxy.hub.replication import NodeRole
from tradeproxy.journal.backlog import MAX_BYTES
from tradeproxy.tradelog.day_files import DayFiles
from tradeproxy.tradelog.lines import LineFormat
from tradeproxy.tradelog.service import (
    NOTICE,
    RETRY_INTERVAL,
    STEP,
    STOP_TIMEOUT,
    TradeLogService,
)
from tradeproxy.wire.frame import Recovered, with_mark


class TradeLogTests(TradeLogCase):
    """Each event is in the file of its trade date, once."""

    def test_events_are_written_with_a_header_and_their_cursors(self) -> None:
        """The columns are those of export; the cursor is the position behind the event."""
        self.publish(1, 2)
        self.write()
        first, second = self.read_rows()
        self.assertEqual(list(first)[-3:], ["recovered", "reason", "cursor"])
        self.assertEqual(second["cursor"], self.account.cursor_at(2))
        self.assertEqual(first["time"], "2026-09-21T14:13:21.000000Z")

    def test_files_are_private(self) -> None:
        """Trading history is nobody else's business."""
        self.publish(1)
        self.write()
        modes = {path.name: path.stat().st_mode & 0o777 for path in self.directory.iterdir()}
        self.assertEqual(set(modes.values()), {0o600})
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)

    def test_late_event_goes_to_the_file_of_its_date(self) -> None:
        """A backfill may find an event of yesterday after one of today."""
        self.publish(86_400)
        self.publish(1)
        self.publish(86_401)
        self.write()
        self.assert_numbers(1, 86_400, 86_401)
        self.assertEqual(
            sorted(path.name for path in self.directory.glob("*.csv")),
            ["paper-2026-09-21.csv", "paper-2026-09-22.csv"],
        )

    def test_event_without_time_follows_the_event_before_it(self) -> None:
        """So it gets the same date after a restart."""
        self.publish(86_400)
        self.publish(7, at=None)
        self.write()
        [path] = self.directory.glob("*.csv")
        self.assertEqual(path.name, "paper-2026-09-22.csv")

    def test_events_of_the_journal_are_written_at_the_first_start(self) -> None:
        """Whoever turns the trade log on gets what the journal still has."""
        self.kill()
        shutil.rmtree(self.directory)
        self.path.parent.mkdir(exist_ok=True)
        journal = self.open()
        journal.append([event(n) for n in range(1, 40)])
        journal.close()
        self.start()
        self.assert_numbers(*range(1, 40))
        self.assertEqual(self.account.trade_log and self.account.trade_log.missing, 0)

    def test_restart_continues(self) -> None:
        """Nothing is missing, and nothing is there twice."""
        self.publish(1, 2)
        self.write()
        self.publish(3)
        self.restart()
        self.publish(4)
        self.write()
        self.assert_numbers(1, 2, 3, 4)

    def test_stop_writes_what_is_left(self) -> None:
        """The files are complete after a clean stop."""
        self.publish(1, 2)
        stopped = self.service.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assert_numbers(1, 2)

    def test_stop_does_not_wait_for_a_disk_that_hangs(self) -> None:
        """A network file system may not answer for minutes."""
        self.threads = []
        self.publish(1)
        self.write()
        stopped = self.service.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        self.clock.advance(STOP_TIMEOUT)
        self.successResultOf(stopped)

    def test_second_signal_shortens_the_stop(self) -> None:
        """The next start writes the rest."""
        self.threads = []
        self.publish(1)
        self.write()
        stopped = self.service.stopService()
        assert stopped is not None
        self.service.shorten_stop()
        self.successResultOf(stopped)
        self.threads = None
        self.restart()
        self.assert_numbers(1)

    def test_torn_line_is_cut_off_and_written_again(self) -> None:
        """A crash in the middle of a write leaves a part of a line."""
        self.publish(1)
        self.write()
        self.publish(2, 3)
        self.write_without_checkpoint()
        self.kill()
        path = self.file()
        path.write_bytes(path.read_bytes()[:-20])
        self.start()
        self.assert_numbers(1, 2, 3)

    def test_line_without_its_end_is_completed(self) -> None:
        """A crash can cut off the line end alone; the line is not written twice."""
        self.publish(1)
        self.write()
        self.publish(2)
        self.write_without_checkpoint()
        self.kill()
        path = self.file()
        path.write_bytes(path.read_bytes()[:-1])
        self.start()
        self.publish(3)
        self.write()
        self.assert_numbers(1, 2, 3)

    def test_lines_behind_the_checkpoint_are_not_written_again(self) -> None:
        """A kill between the write and the checkpoint, with events of two dates."""
        self.publish(1)
        self.write()
        self.publish(86_400, 2, 86_401)
        self.write_without_checkpoint()
        self.restart()
        self.publish(3)
        self.write()
        self.assert_numbers(1, 2, 3, 86_400, 86_401)

    def test_zeros_of_a_power_cut_are_cut_off(self) -> None:
        """A file system may have made the file longer before it had the content."""
        self.publish(1)
        self.write()
        self.publish(2, 3)
        self.write_without_checkpoint()
        self.kill()
        path = self.file()
        lines = path.read_bytes().splitlines(keepends=True)
        lines[2] = bytes(len(lines[2]) - 1) + b"\n"
        path.write_bytes(b"".join(lines))
        self.start()
        self.assert_numbers(1, 2, 3)

    def test_damaged_checkpoint_leaves_the_older_one(self) -> None:
        """A power cut in the middle of its write; the lines behind it are found in the file."""
        self.publish(1)
        self.write()
        self.publish(2)
        self.write()
        self.kill()
        path = self.directory / "paper.position"
        newest = max(
            path.read_text().splitlines(), key=lambda line: int((line.split() or ["0"])[0])
        )
        path.write_text(path.read_text().replace(newest[-150:], "x" * 150))
        self.start()
        self.publish(3)
        self.write()
        self.assert_numbers(1, 2, 3)

    def test_lost_position_is_found_in_the_newest_files(self) -> None:
        """A backup may have the files alone."""
        self.publish(86_400)
        self.publish(1)
        self.write()
        self.kill()
        (self.directory / "paper.position").unlink()
        self.start()
        self.publish(2)
        self.write()
        self.assert_numbers(1, 2, 86_400)

    def test_deleted_file_is_not_written_again(self) -> None:
        """Old files are the user's to move away, while the proxy runs or not."""
        self.publish(1)
        self.write()
        self.file().unlink()
        self.publish(2)
        self.write()
        self.assert_numbers(2)
        self.kill()
        self.file().rename(self.directory / "moved")
        self.start()
        self.publish(3)
        self.write()
        self.assert_numbers(3)

    def test_full_disk_is_reported_once_and_caught_up(self) -> None:
        """No line is missing or twice, and no reader sees a part of one."""
        self.publish(1)
        self.write()
        real = os.write

        def write(descriptor: int, data: bytes) -> int:
            real(descriptor, bytes(data)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        self.publish(2, 3)
        patch = self.patch(os, "write", write)
        self.write()
        self.clock.advance(RETRY_INTERVAL)
        self.assertTrue(self.file().read_bytes().endswith(b"\n"))
        self.assertIn("disk full", self.account.notices[NOTICE])
        patch.restore()
        self.clock.advance(RETRY_INTERVAL)
        self.assertNotIn(NOTICE, self.account.notices)
        self.assert_numbers(1, 2, 3)
        self.assertEqual(self.count_logged("is not written"), 1)
        self.assertEqual(self.count_logged("is written again"), 1)

    def test_folder_that_is_gone_is_made_again(self) -> None:
        """Somebody has cleaned up; later events are not lost."""
        self.publish(1)
        self.write()
        shutil.rmtree(self.directory)
        self.publish(2)
        self.write()
        self.clock.advance(RETRY_INTERVAL)
        self.assert_numbers(2)

    def test_folder_that_cannot_be_made_is_reported(self) -> None:
        """An unmounted volume; the events wait in the journal."""
        self.kill()
        shutil.rmtree(self.directory)
        self.directory.write_text("")
        self.start()
        self.publish(1)
        self.assertIn("is not a directory", self.account.notices[NOTICE])
        self.directory.unlink()
        self.clock.advance(RETRY_INTERVAL)
        self.assert_numbers(1)

    def test_folder_that_everyone_can_write_is_refused(self) -> None:
        """Another user could put other rows into the files."""
        self.kill()
        self.directory.chmod(0o777)
        self.start()
        self.publish(1)
        self.write()
        self.assertIn("everyone can write it; run chmod o-w", self.account.notices[NOTICE])
        self.assertEqual(self.read_rows(), [])

    def test_link_and_shared_file_are_refused(self) -> None:
        """A link could lead to any file of the user's."""
        target = self.directory / "target"
        for make in (
            lambda path: path.symlink_to(target),
            lambda path: os.mkfifo(path),
            lambda path: (path.touch(), path.chmod(0o666)),
        ):
            make(self.file())
            self.publish(1)
            self.clock.advance(RETRY_INTERVAL)
            self.assertIn("is not written", self.account.notices.pop(NOTICE))
            self.file().unlink()
        self.assertFalse(target.exists())

    def test_file_with_many_lines_of_others_is_refused(self) -> None:
        """Five million of them took 300 MB in each attempt, and delayed all clients by seconds."""
        self.publish(1)
        self.write()
        written = self.file().read_bytes()
        self.file().write_bytes(written + b"{}\n" * 100_000)
        self.publish(2)
        self.write()
        self.assertIn("bytes is ours", self.account.notices[NOTICE])
        self.file().write_bytes(written)
        self.clock.advance(RETRY_INTERVAL)
        self.assert_numbers(1, 2)

    def test_second_process_waits(self) -> None:
        """Two proxies with one folder would write every line twice."""
        line_format = LineFormat("paper", self.kind)
        other = Account("paper", self.journal, self.clock)
        files = DayFiles(self.directory, "paper", line_format)
        service = TradeLogService(other, files, line_format, self.clock, self.in_thread)
        service.startService()
        self.assertIn("another tradeproxy uses it", other.notices[NOTICE])
        self.files.close()
        self.clock.advance(RETRY_INTERVAL)
        self.assertNotIn(NOTICE, other.notices)
        files.close()

    def test_new_epoch_continues_with_its_rows(self) -> None:
        """The log is another account's now: what was not written of the old one is declared."""
        self.journal.identify("one")
        self.publish(1)
        self.write()
        self.publish(2)
        self.journal.identify("another")
        self.publish(3)
        self.write()
        self.assert_numbers(1, 3)
        assert self.account.trade_log is not None
        self.assertEqual(self.account.trade_log.missing, 1)
        self.restart()
        self.assert_numbers(1, 3)

    def test_trimmed_rows_are_declared(self) -> None:
        """A disk that was full for longer than the journal keeps events."""
        self.kill()
        self.directory.chmod(0o777)
        self.start(max_events=10)
        self.publish(*range(1, 31))
        self.clock.advance(3600)
        self.directory.chmod(0o700)
        self.clock.advance(RETRY_INTERVAL)
        first = self.journal.first
        self.assertGreater(first, 1)
        self.assert_numbers(*range(first, 31))
        assert self.account.trade_log is not None
        self.assertEqual(self.account.trade_log.missing, first - 1)
        self.assertEqual(self.count_logged("the trade log lacks"), 1)

    def test_hole_is_declared_once_while_the_disk_is_full(self) -> None:
        """The rows after the last checkpoint are read again at each attempt."""
        self.kill()
        shutil.rmtree(self.directory)
        connections = Connections()
        self.start(connect=connections, max_spooled=0)
        self.publish(1)
        self.write()
        connections.refuse_writing()
        self.publish(2)
        self.publish(3, padding="x" * MAX_BYTES)
        self.write()
        self.directory.chmod(0o777)
        connections.refuse_writing(False)
        self.publish(5)
        self.clock.pump([RETRY_INTERVAL] * 10)
        self.directory.chmod(0o700)
        self.clock.pump([RETRY_INTERVAL] * 2)
        self.assert_numbers(1, 2, 5)
        self.assertEqual(self.count_logged("the trade log lacks 1 row, which could not"), 1)

    def test_holes_that_follow_each_other_are_declared_together(self) -> None:
        """Redis can lose 100,000 events: each was a line in the log."""
        self.kill()
        connections = Connections()
        self.start(connect=connections, max_spooled=0)
        self.publish(*range(1, 3 * STEP))
        for holes in (f"2 AND {2 * STEP}", f"{2 * STEP + 2} AND {3 * STEP - 1}"):
            connections.execute(
                "UPDATE events SET identity = NULL, digest = NULL, payload = NULL"
                f" WHERE seq BETWEEN {holes}"
            )
        self.write()
        self.assert_numbers(1, 2 * STEP + 1)
        assert self.account.trade_log is not None
        self.assertEqual(self.account.trade_log.missing, 3 * STEP - 3)
        self.assertEqual(self.count_logged("the trade log lacks"), 2)

    def test_hole_before_a_new_log_is_declared_once(self) -> None:
        """It was counted again, as if it were one of the new log."""
        self.kill()
        connections = Connections()
        self.start(connect=connections, max_spooled=0)
        self.journal.identify("one")
        self.publish(*range(1, 2 * STEP + 1))
        connections.execute(
            f"UPDATE events SET identity = NULL, digest = NULL, payload = NULL WHERE seq = {STEP}"
        )
        self.directory.chmod(0o777)
        self.write()
        self.directory.chmod(0o700)
        self.clock.callLater(RETRY_INTERVAL, self.journal.identify, "another")
        self.clock.advance(RETRY_INTERVAL)
        self.assert_numbers(*range(1, STEP))
        assert self.account.trade_log is not None
        self.assertEqual(self.count_logged("could not be stored"), 1)
        self.assertEqual(self.account.trade_log.missing, 1 + STEP)

    def test_rows_that_are_not_durable_wait(self) -> None:
        """A crash would take them back, and give their numbers to others."""
        self.kill()
        connections = Connections()
        self.start(connect=connections, max_spooled=0)
        self.publish(1)
        self.write()
        connections.refuse_writing()
        self.publish(2, 3)
        self.write()
        self.assertFalse(self.journal.status.durable)
        self.assert_numbers(1)
        connections.refuse_writing(False)
        self.publish(4)
        self.clock.pump([RETRY_INTERVAL] * 10)
        self.assertTrue(self.journal.status.durable)
        self.assert_numbers(1, 2, 3, 4)

    def test_follower_does_not_write(self) -> None:
        """With several nodes, the leader writes; a new leader continues after the old one."""
        self.publish(1)
        self.write()
        self.account.role = NodeRole(0.0)
        self.publish(2)
        self.write()
        self.assert_numbers(1)
        self.account.role.start_leading(1.0)
        self.write()
        self.assert_numbers(1, 2)

    def test_line_breaks_of_a_field_are_escaped(self) -> None:
        """Each event is one line, and no field can look like a cursor."""
        cursor = self.account.cursor_at(0)
        self.publish(1, reason=f"a\n=b,\n,{cursor}")
        self.write()
        self.assertEqual(len(self.file().read_text().splitlines()), 2)

    def test_recovered_events_are_marked(self) -> None:
        """As in the frames that clients get."""
        late = event(1)
        self.account.publish_recovered(
            replace(late, payload=with_mark(late.payload, Recovered.EVENTS))
        )
        self.clock.advance(0)
        self.write()
        [row] = self.read_rows()
        self.assertEqual(row["recovered"], "events")


class JsonLinesTests(TradeLogCase):
    """The other format."""

    kind = TradeLogFormat.JSONL

    def test_lines_are_written_once_through_a_torn_one(self) -> None:
        """A line of JSON that was cut off is written again; one without its end is completed."""
        self.publish(1)
        self.write()
        path = self.file(f"paper-{DAY_OF_EVENTS}.jsonl")
        for n, cut in enumerate((30, 1), 2):
            self.publish(n)
            self.write_without_checkpoint()
            self.kill()
            path.write_bytes(path.read_bytes()[:-cut])
            self.start()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual(
            [line["order"]["id"] for line in lines], [order_id_of(n) for n in (1, 2, 3)]
        )
        self.assertEqual(lines[2]["cursor"], self.account.cursor_at(3))

    def test_line_cut_behind_its_cursor_is_written_again(self) -> None:
        """The cursor is there, but the line is no JSON."""
        self.publish(1)
        self.write()
        self.publish(2)
        self.write_without_checkpoint()
        self.kill()
        path = self.file(f"paper-{DAY_OF_EVENTS}.jsonl")
        path.write_bytes(path.read_bytes()[:-3])
        self.start()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual(len(lines), 2)
