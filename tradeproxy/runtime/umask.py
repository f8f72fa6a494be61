"""The mode of the files that this process creates: only the owner can read and write them."""

from __future__ import annotations

import os
import stat
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

_UMASK = 0o077
_OTHERS = 0o007


def keep_files_private(runner: MutableMapping[str, Any]) -> None:
    """Give 0600 to the files that twistd or twist creates: log, rotated logs and pidfile.

    Call it before twistd opens them. twistd's own default umask comes after the log, and only for
    a daemon. A log that is there already gets 0600 if everyone has access to it. One that only a
    group can read keeps its mode: an administrator has chosen that.

    `runner` has the options of twistd or twist; its `umask` is changed.
    """
    os.umask(_UMASK)
    if runner.get("umask") is not None:
        runner["umask"] |= _UMASK
    # A daemon has a default. twist has opened its log already, with the umask of the shell.
    default = "" if runner.get("nodaemon", True) else "twistd.log"
    opened = getattr(runner.get("logFile"), "name", "")
    _close_to_others(runner.get("logfile") or default)
    _close_to_others(opened)


def _close_to_others(path: str) -> None:
    # Not /dev/null, which must stay open to everyone. twistd reports a file that it cannot use.
    with suppress(OSError):
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode) and mode & _OTHERS:
            os.chmod(path, 0o600)
