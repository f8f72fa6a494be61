"""`make audit`: the known weaknesses of the installed libraries, as pip-audit finds them."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from typing import Any

SERVICES = ("pypi", "osv")
"""pip-audit's databases, in the order in which they are asked."""

TIMEOUT = 120
"""Seconds for one database."""


def run(program: str, service: str) -> list[dict[str, Any]]:
    """Return pip-audit's report on each library; an empty one if it failed."""
    command = (
        *(program, "--format=json", "--progress-spinner=off", f"--vulnerability-service={service}"),
        *("--path", sysconfig.get_path("purelib")),
    )
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return []
    return found


def list_weaknesses(libraries: list[dict[str, Any]]) -> list[str]:
    """Return a line for each known weakness."""
    return [
        f"{library['name']} {library['version']}: {weakness['id']},"
        f" fixed in {', '.join(weakness['fix_versions']) or 'no version'}"
        for library in libraries
        for weakness in library.get("vulns", ())
    ]


def list_checked(libraries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the libraries that the database has. It never has this package itself."""
    return [library for library in libraries if "skip_reason" not in library]


def main(program: str) -> int:
    """Print the weaknesses; the status is 1 if there are some, and 0 if nothing can be checked."""
    for service in SERVICES:
        libraries = run(program, service)
        if checked := list_checked(libraries):
            weaknesses = list_weaknesses(checked)
            print("\n".join(weaknesses))
            print(f"audit: {len(checked)} libraries checked, {len(weaknesses)} known weaknesses")
            return 1 if weaknesses else 0
    print(
        "audit: nothing was checked, since pip-audit cannot reach its databases (pypi.org, osv.dev)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
