"""Small file systems in memory, for tests of a disk that is full."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

SIZE = 1024 * 1024
"""The bytes of a file system."""


def mount_disk(case: SynchronousTestCase | TestCase, options: str = "") -> Path:
    """Return the directory of a new file system, which is unmounted when the test ends.

    Raises SkipTest without the permission to mount.
    """
    directory = Path(case.mktemp()).absolute()
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}{options}", "tmpfs", str(directory)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise SkipTest("cannot mount a file system here") from None
    case.addCleanup(subprocess.run, ["umount", "--lazy", str(directory)], check=False)
    return directory


def fill_disk(directory: Path, *, free: int = 0) -> None:
    """Fill the file system, but for some bytes."""
    with suppress(OSError), (directory / "fill").open("wb", buffering=0) as file:
        for _ in range((SIZE - free) // 4096):
            file.write(bytes(4096))


def use_inodes(directory: Path) -> None:
    """Create files until that is impossible."""
    with suppress(OSError):
        for number in range(os.statvfs(directory).f_files + 1):
            (directory / str(number)).touch()
