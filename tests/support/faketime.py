"""The clocks of a process, changed while it runs, with libfaketime."""

from __future__ import annotations

from pathlib import Path

LIBRARY_PATTERN = "*/faketime/libfaketime.so.1"
"""Where Debian's package `libfaketime` installs the library, below /usr/lib."""

SHARED_MEMORY = Path("/dev/shm")


def find_library() -> Path | None:
    """Return the path of libfaketime; None if it is not installed."""
    return next(Path("/usr/lib").glob(LIBRARY_PATTERN), None)


class FakeClock:
    """The clocks of every process that gets `environment`. The times of files stay real."""

    def __init__(self, library: Path, file: Path, *, intervals: bool = False) -> None:
        """Begin at the real time.

        Args:
            library: see `find_library`.
            file: keeps the offset; it is created.
            intervals: whether CLOCK_MONOTONIC and CLOCK_BOOTTIME change too, as if the machine had
                slept. (In a real suspend CLOCK_MONOTONIC stops.) Otherwise only the date changes.
        """
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",  # a running process reads a new offset at once
            "NO_FAKE_STAT": "1",
        }
        if not intervals:
            self.environment["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
            self.environment["DONT_FAKE_MONOTONIC"] = "1"
        self.set_offset(0)

    def set_offset(self, seconds: int, speed: int = 1) -> None:
        """Set the difference from the real time, and how many times as fast it passes."""
        # A rename: the process never reads half a file.
        temporary = self._file.with_suffix(".new")
        temporary.write_text(f"{seconds:+} x{speed}\n" if speed != 1 else f"{seconds:+}\n")
        temporary.replace(self._file)

    @staticmethod
    def clean_up(pid: int) -> None:
        """Remove the shared memory that the library leaves behind in a killed process."""
        for path in SHARED_MEMORY.glob(f"*faketime_*_{pid}"):
            path.unlink(missing_ok=True)
