"""The groups of clients. Each runs for a few minutes and can be selected by its name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.system.interop import (
    clients_browser,
    clients_front,
    clients_language,
    clients_node,
    clients_python,
    clients_runtime,
    clients_sdk,
)
from tests.system.interop.clients import InteropClient

GROUPS: Mapping[str, tuple[InteropClient, ...]] = {
    "sdk": clients_sdk.CLIENTS,
    "python": clients_python.CLIENTS,
    "node": clients_node.CLIENTS,
    "browser": clients_browser.CLIENTS,
    "runtime": clients_runtime.CLIENTS,
    "language": clients_language.CLIENTS,
    "front": clients_front.CLIENTS,
}


def table() -> list[InteropClient]:
    """Return every client, in the order of the documents."""
    return [client for clients in GROUPS.values() for client in clients]
