"""The WebSocket and EventSource that JavaScript runtimes have built in."""

from __future__ import annotations

from tests.system.interop.clients import Column, InteropClient

DENO = ("deno", "run", "--allow-net")
EVENTSOURCE = "--experimental-eventsource"
# The timer of the reconnect does not keep Node running.
NODE_EVENTSOURCE = ("node", EVENTSOURCE, "--require", "./keep_running.cjs")

NO_RETRY = dict.fromkeys(
    (Column.RESTART, Column.RESUMES), "it does not try again after a refused connection"
)


def _websocket(name: str, package: str, *command: str, needs: str = "") -> InteropClient:
    return InteropClient(
        f"WebSocket of {name}",
        command,
        "websocket.js",
        npm=(package,),
        resumes=True,
        needs=needs,
    )


CLIENTS = (
    _websocket("Node 26.10.0", "node@26.10.0", "node"),
    _websocket("Node 22.23.3", "node@22.23.3", "node", needs="`onerror`"),
    _websocket(
        "Node 20.20.2",
        "node@20.20.2",
        *("node", "--experimental-websocket"),
        needs="`--experimental-websocket`, `onerror`",
    ),
    _websocket("Deno 2.9.6", "deno@2.9.6", *DENO),
    _websocket("Bun 1.4.5", "bun@1.4.5", "bun"),
    *(
        InteropClient(
            f"EventSource of Node {version}",
            NODE_EVENTSOURCE,
            "eventsource.js",
            npm=(f"node@{version}",),
            files=("keep_running.cjs",),
            resumes=True,
            needs=f"`{EVENTSOURCE}`, a task that keeps Node running",
            remarks=remarks,
        )
        for version, remarks in (("26.10.0", {}), ("22.23.3", NO_RETRY), ("20.20.2", NO_RETRY))
    ),
    InteropClient(
        "EventSource of Deno 2.9.6", DENO, "eventsource.js", npm=("deno@2.9.6",), resumes=True
    ),
)
