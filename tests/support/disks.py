"""Small file systems in memory, limits and open files, for tests of disks that fail."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond some bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def list_descriptors(path: Path) -> list[int]:
    """Return this process's descriptors of files whose paths begin so, removed or not."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the directory itself, which is closed again
            if str(each.readlink()).startswith(str(path.absolute())):
                found.append(int(each.name))
    return sorted(found)
