"""Faults that are over within seconds: of the stream, the clients, the disk and the clocks."""

from __future__ import annotations

import resource

from tests.system.chaos.fault_group import FaultGroup, Strike
from tradeproxy.simulator.faults import FaultKind

DAY = 86_400
"""In seconds."""

FUTURE_TIMEOUT = 3.0
"""Seconds in which the proxy must store an event: a backfill delays it by two at most."""

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class ShortFaults(FaultGroup):
    """Faults that are over within seconds."""

    def weigh(self) -> dict[Strike, int]:
        """Return all faults with their weights.

        Those that are over at once are frequent; those that interrupt the stream for long are rare.
        """
        weights: dict[Strike, int] = {
            self.kill_client: 14,
            self.stall_client: 12,
            self.repeat_events: 8,
            self.send_garbage: 4,
            self.end_upstream: 8,
            self.silence_upstream: 5,
            self.skip_events: 4,
            self.refuse_login: 2,
            self.throttle_upstream: 2,
            self.hinder_recovery: 12,
            self.refuse_history: 2,
            self.fill_disk: 7,
            self.kill_proxy: 10,
            self.omit_stream_ids: 6,
            self.omit_ids: 6,
            self.reissue_fills: 5,
            self.correct_fill: 6,
            self.bust_fill: 5,
            self.repeat_time: 6,
            self.send_older_times: 5,
            self.send_future_event: 3,
            self.send_wrong_date: 4,
        }
        if self._world.fake_clock is not None:
            weights |= {self.set_clock_back: 4, self.set_clock_ahead: 4}
        return weights

    async def kill_client(self) -> None:
        """Abort the connection of a client."""
        self._random.choice(self._clients).kill()

    async def stall_client(self) -> None:
        """Stop a client from reading while many events are emitted."""
        client = self._random.choice(self._clients)
        client.stall()
        self._world.emit(self._random.randint(50, 200))
        await self._wait(0.2, 3)
        client.resume_reading()

    async def repeat_events(self) -> None:
        """Send the last events from Alpaca again."""
        self._world.repeat(self._random.randint(1, 50))

    async def send_garbage(self) -> None:
        """Send malformed frames from Alpaca."""
        self._inject(FaultKind.GARBAGE, count=5)

    async def end_upstream(self) -> None:
        """End the upstream with a close frame, without one, or by a reset."""
        self._inject(self._random.choice((FaultKind.CLOSE, FaultKind.DROP, FaultKind.RESET)))

    async def silence_upstream(self) -> None:
        """Silence the upstream, so that its events are missed, and then reset it."""
        self._inject(FaultKind.SILENCE)
        await self._wait(0.2, 1)
        self._inject(FaultKind.RESET)

    async def skip_events(self) -> None:
        """Leave events out of the stream, without a disconnect."""
        self._inject(FaultKind.SILENCE, seconds=0.2)
        self._world.emit(3)
        await self._wait(0.3, 0.4)

    async def refuse_login(self) -> None:
        """Reject the next login. Restart the proxy, which would retry only after a minute."""
        self._inject(FaultKind.REFUSE, count=1)
        await self.kill_proxy()
        await self._wait(0.5, 1)
        await self.kill_proxy()

    async def throttle_upstream(self) -> None:
        """Reject connections for a second, as if another one used the account."""
        self._inject(FaultKind.THROTTLE, count=1, retry_after=1)
        self._inject(FaultKind.RESET)

    async def hinder_recovery(self) -> None:
        """End the upstream, and make the history slow, busy, truncated or incomplete."""
        match self._random.randrange(5):
            case 0:
                self._inject(
                    FaultKind.HISTORY_REFUSE, status=503, seconds=self._random.uniform(0.5, 4)
                )
            case 1:
                self._inject(FaultKind.REST_REFUSE, status=429, retry_after=1, seconds=1)
            case 2:
                self._inject(FaultKind.HISTORY_DELAY, delay=self._random.uniform(0.5, 4), count=1)
            case 3:
                self._inject(
                    FaultKind.HISTORY_TRUNCATE, events=self._random.randint(0, 20), count=2
                )
            case _:
                self._inject(
                    FaultKind.HISTORY_DROP, events=self._random.randint(0, 5), dropped=5, count=1
                )
        await self.end_upstream()

    async def refuse_history(self) -> None:
        """Miss events and refuse their history permanently: they are lost and declared."""
        self._inject(FaultKind.SILENCE)
        self._world.emit(20)
        self._inject(FaultKind.HISTORY_REFUSE, status=403, seconds=3)
        self._inject(FaultKind.RESET)
        await self._wait(3, 3)

    async def fill_disk(self) -> None:
        """Make every write of the proxy to a file fail for a while."""
        resource.prlimit(self._world.proxy.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        pid = self._world.proxy.pid
        await self._wait(0.3, 2)
        if self._random.random() < 0.7 and pid == self._world.proxy.pid:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, UNLIMITED)
        else:
            await self.kill_proxy()

    async def omit_stream_ids(self) -> None:
        """Send events without id and time, which their copies in the history have."""
        self._inject(FaultKind.STREAM_WITHOUT_IDS, count=self._random.randint(1, 40))
        await self._interrupt()

    async def omit_ids(self) -> None:
        """Send events without id and time, and with another field in the history."""
        self._inject(FaultKind.WITHOUT_IDS, count=self._random.randint(1, 40))
        await self._interrupt()

    async def reissue_fills(self) -> None:
        """Send the last executions again under other event ids."""
        self._world.reissue(self._random.randint(1, 20))
        await self._interrupt()

    async def correct_fill(self) -> None:
        """Send the last fill again with another price."""
        await self._interrupt()
        self._world.correct()

    async def bust_fill(self) -> None:
        """Send a bust and a correction of the last fill under one event id."""
        await self._interrupt()
        self._world.bust()

    async def repeat_time(self) -> None:
        """Send events of one microsecond."""
        self._world.emit(1)  # the event before may be from the future
        self._inject(FaultKind.SAME_TIME, count=self._random.randint(2, 40))
        await self._interrupt()

    async def send_older_times(self) -> None:
        """Send events that are older than the ones before them."""
        self._world.emit(1)  # the event before may be from the future
        self._inject(FaultKind.OLDER_TIME, count=self._random.randint(1, 10))
        await self._interrupt()

    async def send_future_event(self) -> None:
        """Send an event of the far future. If the stream loses it, no request can find it."""
        number = self._world.emit_shifted(self._random.choice((3_600, 10 * DAY, 365 * DAY)))

        def is_stored() -> bool:
            return any(client.has_stored(number) for client in self._clients)

        alpaca = self._world.alpaca
        await self._until(lambda: is_stored() or not alpaca.listening, FUTURE_TIMEOUT)
        if not is_stored():
            self._world.unfindable.add(number)

    async def send_wrong_date(self) -> None:
        """Send a wrong Date header to the next backfill, of a reconnect or of a restart."""
        offset = self._random.choice((-DAY, -90, 90, 3_600, 10 * DAY))
        self._inject(FaultKind.DATE_SHIFT, offset=offset, count=self._random.randint(1, 2))
        await self._random.choice((self.end_upstream, self.kill_proxy))()

    async def set_clock_back(self) -> None:
        """Set the proxy's clock back by an hour for some seconds."""
        await self._set_clock(-3_600)

    async def set_clock_ahead(self) -> None:
        """Set the proxy's clock ahead by ten days for some seconds."""
        await self._set_clock(10 * DAY)

    async def _set_clock(self, offset: int) -> None:
        clock = self._world.fake_clock
        assert clock is not None
        clock.set_offset(offset)
        await self._wait(0.2, 1)
        match self._random.randrange(3):
            case 0:
                await self.end_upstream()
            case 1:
                await self.kill_proxy()
        await self._wait(0.5, 2.5)
        clock.set_offset(0)

    async def _interrupt(self) -> None:
        """In every second case, make the stream miss some of the next events.

        Frequent reconnects would lengthen the proxy's backoff; a restart resets it.
        """
        match self._random.randrange(4):
            case 0:
                await self.skip_events()
            case 1:
                await self._wait(0, 0.1)
                await self.kill_proxy()
