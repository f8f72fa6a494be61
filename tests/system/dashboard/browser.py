"""Chromium, controlled with one JSON line for each command."""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from pathlib import Path
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest

from tests.support.processes import Command
from tests.system.interop.clients import InteropClient
from tests.system.interop.environments import UnavailableError, prepare

reactor: Any = chosen

DRIVER = Path(__file__).with_name("chromium.mjs")
PACKAGES = ("playwright-core@1.65.1", "axe-core@4.14.1")
"""From npm, for the tests only."""

PATIENCE = 30.0
"""Seconds for one answer; Chromium has 15 for a command."""


class Browser(Command):
    """One page in Chromium. A command that fails raises AssertionError with the reason."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: deque[Deferred[Any]] = deque()
        self._unread = ""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        super().childDataReceived(childFD, data)
        if childFD != 1:
            return
        *lines, self._unread = (self._unread + data.decode()).split("\n")
        for line in lines:
            self._pending.popleft().callback(json.loads(line))

    def processEnded(self, reason: Any) -> None:
        while self._pending:
            self._pending.popleft().errback(
                AssertionError(f"the browser has ended:\n{self.output}")
            )
        super().processEnded(reason)

    def next_answer(self) -> Deferred[Any]:
        """Fire with the next line."""
        answer: Deferred[Any] = Deferred()
        self._pending.append(answer)
        return answer.addTimeout(PATIENCE, reactor)

    async def do(self, command: str, **details: Any) -> Any:
        """Send a command, and return its value."""
        assert self.transport is not None
        next_answer = self.next_answer()
        self.transport.write(json.dumps({"do": command, **details}).encode() + b"\n")
        answer = await next_answer
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["value"]

    async def close(self) -> None:
        """Close the browser: it ends when its input ends."""
        assert self.transport is not None
        self.transport.closeStdin()
        force = reactor.callLater(PATIENCE, self.transport.signalProcess, "KILL")
        await self.ended
        if force.active():
            force.cancel()

    async def text(self, at: str) -> str:
        """Return the text of an element as it is displayed."""
        text: str = await self.do(
            "evaluate", text=f"document.querySelector({json.dumps(at)}).innerText"
        )
        return text

    async def until(self, expression: str) -> None:
        """Return once an expression is true on the page."""
        await self.do("wait", text=expression)


async def start_browser(directory: str) -> Browser:
    """Start a browser; raise SkipTest if Chromium or Playwright is not available."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SkipTest("Chromium is not installed; in Debian, apt-get install chromium")
    try:
        environment = prepare(InteropClient("the dashboard", ("node",), DRIVER.name, npm=PACKAGES))
    except UnavailableError as reason:
        raise SkipTest(str(reason)) from None
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": directory,
        "CHROMIUM": chromium,
        "MODULES": str(environment.directory / "node_modules"),
    }
    browser = Browser()
    ready = browser.next_answer()
    arguments = [environment.find_program("node"), str(DRIVER)]
    reactor.spawnProcess(browser, arguments[0], arguments, env=variables, path=directory)
    await ready
    return browser
