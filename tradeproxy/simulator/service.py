"""The simulator as a service."""

from __future__ import annotations

from typing import Any

from twisted.application import strports
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred

from tradeproxy.runtime.reactor import Reactor
from tradeproxy.simulator.simulator import Simulator
from tradeproxy.simulator.web import ApiSite

__all__ = ["Simulator", "SimulatorService"]


class SimulatorService(MultiService):
    """Serves a simulator on an endpoint; startService raises if the port is in use.

    `description` is that of the endpoint, as for twisted.application.strports.
    """

    def __init__(self, simulator: Simulator, description: str, reactor: Reactor) -> None:
        super().__init__()
        self._simulator = simulator
        strports.service(description, ApiSite(simulator), reactor=reactor).setServiceParent(self)

    def stopService(self) -> Deferred[Any]:
        """Stop listening and close the client's connection, within about a second."""
        return gatherResults([maybeDeferred(super().stopService), self._simulator.stop()])
