"""Chromium, told what to do line by line."""

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
from tests.system.interop.clients import Client, Runtime
from tests.system.interop.environments import UnavailableError, prepare

reactor: Any = chosen

DRIVER = Path(__file__).with_name("chromium.mjs")
PATIENCE = 30.0
"""Seconds for one answer; Chromium itself has 15 for what it is told."""


class Browser(Command):
    """One page in Chromium. Whatever it cannot do is an AssertionError that says what."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: deque[Deferred[Any]] = deque()
        self._unread = ""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        super().childDataReceived(childFD, data)
        if childFD != 1:
            return
        *lines, self._unread = (self._unread + data.decode()).split("\n")
        for line in lines:
            self._asked.popleft().callback(json.loads(line))

    def processEnded(self, reason: Any) -> None:
        while self._asked:
            self._asked.popleft().errback(AssertionError(f"the browser has ended:\n{self.output}"))
        super().processEnded(reason)

    def answer(self) -> Deferred[Any]:
        """Fire with the next line."""
        answered: Deferred[Any] = Deferred()
        self._asked.append(answered)
        return answered.addTimeout(PATIENCE, reactor)

    async def do(self, what: str, **details: Any) -> Any:
        """Tell it, and return what it answers."""
        assert self.transport is not None
        answered = self.answer()
        self.transport.write(json.dumps({"do": what, **details}).encode() + b"\n")
        answer = await answered
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["value"]

    async def finish(self) -> None:
        """Let it end, as it does when it is told nothing more."""
        assert self.transport is not None
        self.transport.closeStdin()
        force = reactor.callLater(PATIENCE, self.transport.signalProcess, "KILL")
        await self.ended
        if force.active():
            force.cancel()

    async def text(self, at: str) -> str:
        """Return the text of an element as it is shown."""
        text: str = await self.do(
            "evaluate", text=f"document.querySelector({json.dumps(at)}).innerText"
        )
        return text

    async def until(self, expression: str) -> None:
        """Return once an expression is true on the page."""
        await self.do("wait", text=expression)


async def begin(directory: str) -> Browser:
    """Start one; raises SkipTest where it cannot be had."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SkipTest("there is no Chromium here; in Debian, apt-get install chromium")
    try:
        environment = prepare(
            Client("the dashboard", Runtime.BROWSER, DRIVER.name, ("playwright-core@1.65.1",))
        )
    except UnavailableError as reason:
        raise SkipTest(str(reason)) from None
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": directory,
        "CHROMIUM": chromium,
        "MODULES": str(environment.directory / "node_modules"),
    }
    browser = Browser()
    ready = browser.answer()
    arguments = [environment.program, str(DRIVER)]
    reactor.spawnProcess(browser, arguments[0], arguments, env=variables, path=directory)
    await ready
    return browser
