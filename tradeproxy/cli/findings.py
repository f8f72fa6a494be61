"""The problems and warnings about settings, for a command that reads only some of them."""

from __future__ import annotations

import sys

from tradeproxy.config.env import Findings


def print_findings(findings: Findings) -> None:
    """Write a line for each warning to standard error.

    Raises SystemExit with a line for each problem, if there is one.
    """
    for warning in findings.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    if findings.problems:
        raise SystemExit("\n".join(findings.problems))
