"""Long faults of Alpaca: streams without events, histories that fail, unreported changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tests.system.chaos.fault_group import FaultGroup, Strike
from tradeproxy.simulator.faults import FaultKind

CHECK_TIMEOUT = 30.0
"""Seconds. A check leaves out the last 10 s, and some findings need two checks, 3 s apart."""

RETRY_TIMEOUT = 5.0
"""Seconds. After most failures the proxy connects again within them, above the limit it waits."""

LIVE_TIMEOUT = 3.0
"""Seconds for an event on a healthy stream, on a busy machine."""

FALLBACK_TIMEOUT = 25.0
"""Seconds in which orders replace a history that fails: 10 s, the last try, and the requests."""

MAX_FILLS = 3000
"""Events of the run, most of them fills of the last minutes, above which no time is demanded.

The proxy reads the fills page by page, a hundred on each, and sends 60 requests a minute at most.
"""

JSON_ERROR = '{"code":50010000,"message":"internal server error"}'

FAILURES: dict[str, tuple[FaultKind, dict[str, Any]]] = {
    "history_400": (FaultKind.HISTORY_REFUSE, {"status": 400}),
    "history_422": (FaultKind.HISTORY_REFUSE, {"status": 422}),
    "history_500": (FaultKind.HISTORY_REFUSE, {"status": 500}),
    "history_501": (FaultKind.HISTORY_REFUSE, {"status": 501}),
    "history_html": (FaultKind.HISTORY_NOT_SSE, {}),
    "history_json": (
        FaultKind.HISTORY_NOT_SSE,
        {"content_type": "text/event-stream", "body": JSON_ERROR},
    ),
    "history_hang": (FaultKind.HISTORY_HANG, {}),
    "history_stall": (FaultKind.HISTORY_STALL, {"events": 0}),
}
"""Ways in which the history fails other than by a refusal."""

LOGIN_ERRORS: tuple[tuple[FaultKind, dict[str, Any]], ...] = (
    (FaultKind.LIMIT, {}),
    (FaultKind.LIMIT, {"code": 406, "message": "connection limit exceeded"}),
    (
        FaultKind.LIMIT,
        {
            "message": "Your connection is rejected while another connection is open under the"
            " same account"
        },
    ),
    (FaultKind.REFUSE, {"message": "unknown"}),
)
"""Answers to a login after which the proxy waits for more than a minute."""


class Outages(FaultGroup):
    """Faults of Alpaca that last longer than the proxy waits before it does something else."""

    def list_faults(self) -> dict[str, Strike]:
        """Return all faults by their names."""
        return {
            "mute_stream": self.mute_stream,
            "mute_all_streams": self.mute_all_streams,
            "cancel_unreported": self.cancel_unreported,
            "cancel_unseen": self.cancel_unseen,
            "limit_logins": self.limit_logins,
            **{name: partial(self.fail_history, name) for name in FAILURES},
        }

    async def mute_stream(self) -> None:
        """Send no events on the present connection. The proxy must open another one."""
        await self._restart()
        opened = self._world.alpaca.handshakes
        self._inject(FaultKind.MUTE)
        await self._emit_unheard("mute stream")
        alpaca = self._world.alpaca
        if not await self._until(
            lambda: alpaca.listening and alpaca.handshakes > opened, LIVE_TIMEOUT
        ):
            self.problems.append("mute stream: no other connection was opened")
        await self._demand_arrival(
            "after the mute stream", self._world.orders.trade(), LIVE_TIMEOUT
        )
        self._inject(FaultKind.RESET)

    async def mute_all_streams(self) -> None:
        """Send no events on any connection. The proxy must find them, and not reconnect often."""
        await self._restart()
        before = self._world.alpaca.handshakes
        self._inject(FaultKind.OMIT, seconds=1_000)
        await self._emit_unheard("mute streams")
        await self._emit_unheard("mute streams, again")
        if (opened := self._world.alpaca.handshakes - before) > 2:
            self.problems.append(f"mute streams: {opened} connections were opened")
        self._world.end_faults(FaultKind.OMIT)
        await self.kill_proxy()

    async def cancel_unreported(self) -> None:
        """Cancel orders without any event. The proxy must find them by itself."""
        await self._restart()
        opened = self._world.orders.open(6)
        await self._demand_arrival("before the unreported changes", opened, FALLBACK_TIMEOUT)
        numbers = self._world.orders.cancel_unreported(3)
        await self._demand_arrival("unreported changes", numbers, CHECK_TIMEOUT)

    async def cancel_unseen(self) -> None:
        """Cancel orders that are older than the journal in an outage, and refuse the history."""
        await self._restart()
        self._inject(FaultKind.SILENCE)
        numbers = self._world.orders.cancel_unseen(3)
        self._inject(FaultKind.HISTORY_REFUSE, status=403, seconds=1_000)
        self._inject(FaultKind.RESET)
        await self._demand_fallback("cancels of old orders", numbers)
        self._world.end_faults(FaultKind.HISTORY_REFUSE)

    async def limit_logins(self) -> None:
        """Reject logins as above the limit. The proxy must wait; then restart it."""
        alpaca = self._world.alpaca
        for kind, details in LOGIN_ERRORS:
            await self._world.kill_proxy()
            await alpaca.when_gone()
            before = alpaca.handshakes
            self._inject(kind, count=1, **details)
            await self._world.start_proxy()
            await self._wait(RETRY_TIMEOUT, RETRY_TIMEOUT)
            if (attempts := alpaca.handshakes - before) != 1:
                self.problems.append(
                    f"limit logins: {attempts} attempts, after {kind.value} {details}"
                )
        await self._restart()

    async def fail_history(self, name: str) -> None:
        """Miss events while the history fails. The orders must replace it."""
        kind, details = FAILURES[name]
        await self._restart()
        self._world.orders.open(4)
        self._inject(FaultKind.SILENCE)
        numbers = self._world.orders.trade()
        self._inject(kind, seconds=1_000, **details)
        self._inject(FaultKind.RESET)
        await self._demand_fallback(name.replace("_", " "), numbers)
        self._world.end_faults(kind)
        await self._wait(3, 4)  # a check reads the history, which has those events too
        self._inject(FaultKind.RESET)

    async def _demand_fallback(self, what: str, numbers: Sequence[int]) -> None:
        """Wait for events made of orders. They must be in time unless there are too many fills."""
        if len(self._world.emitted) <= MAX_FILLS:
            await self._demand_arrival(what, numbers, FALLBACK_TIMEOUT)
        else:
            await self._wait(FALLBACK_TIMEOUT / 2, FALLBACK_TIMEOUT)

    async def _emit_unheard(self, what: str) -> None:
        self._world.emit(5)
        numbers = self._world.orders.trade()
        await self._demand_arrival(what, numbers, CHECK_TIMEOUT)
