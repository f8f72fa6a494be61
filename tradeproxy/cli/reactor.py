"""One coroutine in the reactor, for a command that then ends."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tradeproxy.runtime.reactor import Reactor, use_monotonic_clock
from tradeproxy.runtime.stop_signals import watch_stop_signals

T = TypeVar("T")


def run_coroutine(work: Callable[[Reactor], Coroutine[Any, Any, T]]) -> T:
    """Run `work(reactor)` and return its result. A process can do this once.

    Raises SystemExit if it fails or is interrupted.
    """
    from twisted.internet import task

    results: list[T] = []

    async def run(reactor: Reactor) -> None:
        use_monotonic_clock(reactor)
        watch_stop_signals(reactor)
        results.append(await work(reactor))

    try:
        task.react(run)
    except SystemExit:  # `react` ends with it after a success too
        if not results:
            raise
    return results[0]
