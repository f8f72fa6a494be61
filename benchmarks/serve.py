"""Runs the proxy with its journals in memory, to measure it without the disk.

    python serve.py

The proxy has no such setting. All other settings come from the environment as usual.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from twisted.application.app import startApplication
from twisted.application.service import Application
from twisted.internet import reactor as chosen
from twisted.python.log import startLogging

from tradeproxy.tap import Options, makeService


def main() -> None:
    """Serve until SIGTERM."""
    reactor: Any = chosen
    options = Options()
    options.parseOptions([])
    settings = options.settings
    options.settings = replace(settings, journal=replace(settings.journal, directory=None))
    startLogging(sys.stdout, setStdout=False)
    application: Any = Application("tradeproxy")
    service: Any = makeService(options)
    service.setServiceParent(application)
    startApplication(application, False)
    reactor.run()


main()
