"""A rolling update: nodes of the former version and of this checkout share one log in Redis.

| step                            | leader                  | followers            |
|---------------------------------|-------------------------|----------------------|
| update a follower               | former                  | former, updated      |
| restart the leader as it was    | former, then updated    | former, former       |
| kill the updated leader         | updated, then former    | former, updated      |
| update the other follower       | former                  | updated, updated     |
| update the leader, last         | former, then updated    | updated, updated     |
| end the stream                  | updated                 | updated, updated     |
| restart the updated leader      | updated, then another   | updated, updated     |
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from random import Random

from tests.support.processes import SOURCES
from tests.support.tcp_relay import RelayMode
from tests.system.cluster.scenario import Scenario, Step
from tests.system.cluster.world import ClusterWorld, NodeProcess, until
from tradeproxy.simulator.faults import Fault, FaultKind

FORMER = "3f3b78d91d984a73bab9d13b107d8148b356a03a"
"""The last commit with the former format: entries in Redis have no field `x`, and a fill is
identified by its `event_id` alone. Nodes of both formats share a log during a rolling update."""

COPIES = 20
"""Events in each step whose copies in the stream have no ids."""

REPEATED = 5
"""Events that the stream sends again in each step."""


def extract_former(directory: Path) -> str:
    """Extract the sources of FORMER; return why that is not possible, or an empty string."""
    git = shutil.which("git")
    if git is None:
        return "there is no git here"
    command = [git, "-C", str(SOURCES), "archive", FORMER, "tradeproxy", "twisted"]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        reason = archive.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return f"this repository does not have commit {FORMER[:7]} ({reason})"
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(directory, filter="data")
    return ""


class RollingUpdate(Scenario):
    """Updates the followers first and the leader last, with a setback in between."""

    def __init__(
        self, world: ClusterWorld, random: Random, former: Path, *, with_crash: bool
    ) -> None:
        """Create the scenario; the nodes of `world` start with the sources in `former`.

        Args:
            world: the nodes, Redis and Alpaca.
            random: chooses nodes and numbers of events.
            former: the sources of the former version.
            with_crash: whether the updated leader dies and a node of the former version follows it.
        """
        super().__init__(world, random)
        self._former = former
        self._with_crash = with_crash

    async def run(self) -> None:
        self._expect(
            any(self._former.glob("tradeproxy/cluster/__pycache__/*.pyc")),
            "the nodes run the former version",
        )
        await self._run_step(self.update_a_follower)
        if self._with_crash:
            await self._run_step(self.restart_the_leader_as_it_was)
            await self._run_step(self.kill_the_updated_leader)
        while len(self._list_former()) > 1:
            await self._run_step(self.update_a_follower)
        await self._run_step(self.update_the_leader)
        await self._run_step(self.end_the_stream)
        await self._run_step(self.restart_the_updated_leader)

    async def _run_step(self, step: Step) -> None:
        self.note(self._count(step))
        self._emit_events()
        self._world.repeat(REPEATED)
        await step()
        await self._world.until_ready()
        await self._wait(0.5, 1.5)  # with events, and with clients that change nodes

    def _list_former(self) -> list[NodeProcess]:
        return [node for node in self._world.nodes if node.is_former]

    async def update_a_follower(self) -> None:
        """Update a follower of the former version; the leader, of that version too, continues."""
        leader = await self._world.find_leader()
        follower = self._random.choice([node for node in self._list_former() if node is not leader])
        self._expect(leader.is_former, "a node of the former version leads")
        await self._update(follower)
        self._expect(self._world.leader is leader, "the leader goes on when a follower is updated")

    async def restart_the_leader_as_it_was(self) -> None:
        """Restart the leader with the former version; the updated node is the next leader."""
        leader = await self._world.find_leader()
        others = [node for node in self._list_former() if node is not leader]
        for node in others:
            await node.relay.set_mode(RelayMode.REFUSED)  # so that they do not lead
        await leader.stop()
        await self._world.until_led_by_another(leader)
        for node in others:
            await node.relay.restore()
        await leader.start()
        self._expect(self._is_led_by(former=False), "the updated node leads")

    async def kill_the_updated_leader(self) -> None:
        """Kill it; a node of the former version leads when the lease has expired."""
        leader = await self._world.find_leader()
        await leader.stop("KILL")
        await self._world.until_led_by_another(leader)
        await leader.start()
        self._expect(self._is_led_by(former=True), "a node of the former version leads again")

    async def update_the_leader(self) -> None:
        """Update the last node of the former version; an updated node is the next leader."""
        leader = await self._world.find_leader()
        self._expect(self._list_former() == [leader], "the leader is updated last")
        # The next leader must recognize them by what the former version wrote.
        self._emit_without_ids()
        await self._update(leader)
        self._expect(self._is_led_by(former=False), "an updated node leads")

    async def end_the_stream(self) -> None:
        """End the stream, so that the leader reads the history again."""
        self._emit_variants()
        listener = self._world.alpaca.listener
        assert listener is not None
        self._world.alpaca.inject(Fault(FaultKind.CLOSE))
        await until(lambda: listener.ended is not None, "the stream ends")
        await self._world.find_leader()

    async def restart_the_updated_leader(self) -> None:
        """Restart it; the next leader compares the history with what it has read from Redis."""
        self._emit_variants()
        leader = await self._world.find_leader()
        await leader.stop()
        await self._world.until_led_by_another(leader)
        await leader.start()

    def _emit_variants(self) -> None:
        """Emit what only updated leaders tell apart: other copies, and corrections."""
        self._emit_without_ids()
        self._world.reissue(REPEATED)
        self._world.correct()
        self._world.bust()

    def _emit_without_ids(self) -> None:
        """Emit events whose ids are only in the history's copies.

        Not before the last node of the former version has stopped to lead: it would append both.
        """
        self._world.alpaca.inject(Fault(FaultKind.STREAM_WITHOUT_IDS, count=COPIES))
        self._world.emit(COPIES)

    async def _update(self, node: NodeProcess) -> None:
        await node.stop()
        node.use_sources(None)
        await node.start()
        await self._world.find_leader()

    def _is_led_by(self, *, former: bool) -> bool:
        leader = self._world.leader
        return leader is not None and leader.is_former is former
