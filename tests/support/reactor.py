"""The process's reactor with the type that the product gives it."""

from __future__ import annotations

from tradeproxy.runtime.reactor import get_reactor

reactor = get_reactor()
