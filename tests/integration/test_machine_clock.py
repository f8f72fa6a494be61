"""The proxy as a process whose machine has a wrong date, or sleeps. Needs libfaketime."""

from __future__ import annotations

import json
from pathlib import Path
from time import time
from typing import Any
from urllib.request import urlopen

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.support.faketime import FakeClock, find_library
from tests.support.frames import AUTH
from tests.support.sockets import SocketTestCase
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.wire.event import format_time, parse_time

HOUR, DAY = 3600, 86_400


def build_event(number: int) -> dict[str, Any]:
    """Return an event that happens now."""
    return {
        "event_id": f"event {number}",
        "at": format_time(round(time() * 1_000_000)),
        "event": "new",
        "order": {"id": "1"},
    }


class MachineClockTests(SocketTestCase):
    """The date of a machine may be wrong for a while. A laptop may sleep at any time."""

    def make_clock(self, *, intervals: bool = False) -> FakeClock:
        """Return the clocks of the next processes."""
        library = find_library()
        if library is None:
            raise SkipTest("libfaketime is not installed")
        self.directory = self.make_directory()
        return FakeClock(library, Path(self.directory, "offset"), intervals=intervals)

    async def read_status(self) -> Any:
        """Return /status.json. The request also lets the reactor look at its timers again."""
        url = f"http://127.0.0.1:{self.port}/status.json"
        with await deferToThread(urlopen, url) as response:
            return json.load(response)

    async def test_date_set_back_does_not_delay_reconnect(self) -> None:
        """No pending timer fired for an hour: no reconnect, no detection of dead connections."""
        clock = self.make_clock()
        alpaca = await self.simulate()
        proxy = await self.proxy(**clock.environment)
        await alpaca.when_listening()
        client = await self.subscribe()
        alpaca.inject(Fault(FaultKind.THROTTLE, retry_after=1))
        alpaca.inject(Fault(FaultKind.DROP))
        await proxy.says("HTTP 429")
        clock.set_offset(-HOUR)
        events = [alpaca.emit(build_event(1))]
        await alpaca.when_listening()
        events.append(alpaca.emit(build_event(2)))
        await client.has(2)
        self.assertEqual(client.taken(), events)
        await proxy.finish()
        clock.clean_up(proxy.pid)

    async def test_date_days_ahead_keeps_the_journal(self) -> None:
        """A Raspberry Pi had the wrong date until NTP answered: the journal was trimmed empty."""
        clock = self.make_clock(intervals=True)
        alpaca = await self.simulate()
        proxy = await self.proxy(**clock.environment)
        await alpaca.when_listening()
        client = await self.subscribe()
        events = [alpaca.emit(build_event(n)) for n in range(3)]
        await client.has(3)
        await proxy.finish()
        clock.set_offset(10 * DAY, speed=30)
        proxy = await self.proxy(**clock.environment)
        status = await self.read_status()
        while parse_time(status["now"]) < parse_time(status["started"]) + 2e6 * TRIM_EVERY:
            status = await self.read_status()
        client = await self.connect("/trade-updates-paper?since_id=event%200", AUTH)
        await client.has(3)
        self.assertEqual(client.taken()[1:], events[1:])
        await proxy.finish()
        clock.clean_up(proxy.pid)

    async def test_date_behind_accepts_positions(self) -> None:
        """Over a minute behind, `since` was HTTP 400, which is final for clients."""
        clock = self.make_clock()
        clock.set_offset(-HOUR)
        alpaca = await self.simulate()
        proxy = await self.proxy(**clock.environment)
        await alpaca.when_listening()
        live = await self.subscribe()
        event = build_event(1)
        payload = alpaca.emit(event)
        await live.has(1)
        client = await self.connect(f"/trade-updates-paper?since={event['at']}", AUTH)
        await client.has(2)
        self.assertEqual(client.taken()[1:], [payload])
        await proxy.finish()
        clock.clean_up(proxy.pid)

    async def test_sleep_of_machine_counts_for_dead_connections(self) -> None:
        """After an hour in a bag the connection is dead. The proxy must not wait for its timers."""
        clock = self.make_clock(intervals=True)
        alpaca = await self.simulate()
        proxy = await self.proxy(**clock.environment)
        await alpaca.when_listening()
        alpaca.inject(Fault(FaultKind.SILENCE))
        gone = alpaca.when_gone()
        for offset in range(HOUR, 2 * HOUR, 60):
            clock.set_offset(offset)
            await self.read_status()
            if gone.called:
                break
        await gone
        self.assertLess(offset, HOUR + 10 * 60)
        await alpaca.when_listening()
        await proxy.finish()
        clock.clean_up(proxy.pid)
