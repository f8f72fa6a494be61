"""The name of the `tradeproxy` command in messages: as the user can type it here."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

NAME = "tradeproxy"


def name_command(arguments: str) -> str:
    """Return the command line of `tradeproxy` with these arguments, to be quoted in a message.

    In a clone, README's way is `.venv/bin/tradeproxy`, which is not in PATH. Then the name is the
    path of the script beside the program that runs: tradeproxy itself, twistd, or Python.
    """
    called = Path(sys.argv[0])
    # With `python -m`, the name is that of a module.
    program = Path(sys.executable) if called.suffix == ".py" else called
    script = program.with_name(NAME)
    if not script.is_file():
        return f"{NAME} {arguments}"
    found = shutil.which(NAME)
    if found is not None and Path(found).samefile(script):
        return f"{NAME} {arguments}"
    if script.is_relative_to(Path.cwd()):
        script = script.relative_to(Path.cwd())
    return f"{shlex.quote(str(script))} {arguments}"
