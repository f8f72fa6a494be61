"""Disks that are full, with real file systems and processes."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import gatherResults

from tests.integration.test_running import KEYS
from tests.support.disks import fill_disk, mount_disk, use_inodes
from tests.support.processes import free_port
from tests.support.sockets import SocketTestCase


class FullDiskStartTests(SocketTestCase):
    """A start that a full disk prevents is one line and status 1, and no traceback."""

    async def lines_of_failures(self, data: Path, *forms: tuple[str, ...]) -> list[list[str]]:
        environment = KEYS | {
            "ALPACA_URL": "http://127.0.0.1:1",
            "PROXY_DATA_DIR": str(data),
        }
        commands = [
            self.command(*form, **environment, PROXY_PORT=str(free_port())) for form in forms
        ]
        statuses = await gatherResults([command.ended for command in commands])
        self.assertEqual(statuses, [1] * len(forms), [command.output for command in commands])
        return [command.output.splitlines() for command in commands]

    async def test_first_start_on_full_disk_is_one_line(self) -> None:
        """With every runner, before anything is started and before a daemon is forked.

        The disk may have room for the directory entries, or for some of the tables.
        """
        for free in (0, 64 * 1024):
            disk = mount_disk(self)
            fill_disk(disk, free=free)
            data = disk / "data" if free else disk
            lines = await self.lines_of_failures(
                data,
                ("twistd", "-n", "--pidfile=", "tradeproxy"),
                ("twistd", "--pidfile=a.pid", "--logfile=a.log", "tradeproxy"),
                ("tradeproxy", "run"),
                ("twist", "tradeproxy"),
            )
            problem = f"PROXY_DATA_DIR: {data}/paper.sqlite3: disk full"
            self.assertEqual(lines, [[problem]] * 4)
            self.assertEqual([each.name for each in disk.iterdir()], ["fill"])

    async def test_first_start_without_free_inode_is_one_line(self) -> None:
        """There is room, but not for another file."""
        disk = mount_disk(self, ",nr_inodes=9")
        use_inodes(disk)
        lines = await self.lines_of_failures(disk, ("twistd", "-n", "--pidfile=", "tradeproxy"))
        problem = f"PROXY_DATA_DIR: {disk}/paper.sqlite3: disk full, no inode is free"
        self.assertEqual(lines, [[problem]])

    async def test_first_start_on_read_only_disk_is_one_line(self) -> None:
        """Not even root can write to it."""
        disk = mount_disk(self, ",ro")
        lines = await self.lines_of_failures(disk, ("twistd", "-n", "--pidfile=", "tradeproxy"))
        problem = f"PROXY_DATA_DIR: {disk}/paper.sqlite3: the directory {disk} cannot be written to"
        self.assertEqual(lines, [[problem]])

    async def test_full_disk_of_pidfile_is_one_line(self) -> None:
        """The journal is on another disk. The line names the option and the file."""
        disk = mount_disk(self)
        fill_disk(disk)
        data = Path(self.make_directory())
        pidfile = disk / "a.pid"
        lines = await self.lines_of_failures(
            data,
            ("twistd", "-n", f"--pidfile={pidfile}", "tradeproxy"),
            ("twistd", f"--pidfile={pidfile}", "--logfile=/nowhere/a.log", "tradeproxy"),
        )
        problem = f"--pidfile {pidfile}: disk full"
        missing = "--logfile /nowhere/a.log: /nowhere: No such file or directory"
        self.assertEqual(lines, [[problem], [problem, missing]])

    async def test_damaged_journal_on_full_disk_has_no_traceback(self) -> None:
        """The error comes late, after the log has begun. The pidfile is removed."""
        disk = mount_disk(self)
        (disk / "paper.sqlite3").write_bytes(b"nonsense" * 1000)
        fill_disk(disk)
        [lines] = await self.lines_of_failures(disk, ("twistd", "-n", "tradeproxy"))
        self.assertRegex(lines[-1], f"{disk}/paper.sqlite3.*: disk full")
        self.assertNotIn("Traceback", "\n".join(lines))
        self.assertFalse(Path(self.directory, "twistd.pid").exists())
        # It is not set aside before the new one is certain of its past.
        self.assertTrue((disk / "paper.sqlite3").exists())
