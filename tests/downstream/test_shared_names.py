"""Tests for tradeproxy.downstream.shared_names, in a process of its own: the order counts."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

PROGRAM = """
import sys
from twisted.internet.tcp import Server
from twisted.protocols.tls import BufferingTLSTransport
import tradeproxy.web.channel

for transport, late in (
    (Server, ("dataBuffer", "offset")),
    (BufferingTLSTransport, ("_handshakeDone", "_producerPaused")),
):
    instances = []
    for _ in range(100):
        instances.append(transport.__new__(transport))
        for number in range(12):
            setattr(instances[-1], f"early{number}", None)
    for name in late:
        for instance in instances:
            setattr(instance, name, None)
    print(max(sys.getsizeof(vars(instance)) for instance in instances))
"""
"""As in a burst of connections: all are accepted first, and then their handshakes go on."""


class SharedNamesTests(SynchronousTestCase):
    """The memory of an accepted connection."""

    def test_name_that_is_set_late_costs_no_dict_for_each_connection(self) -> None:
        """Each instance has its values alone. A dict with names of its own takes 832 bytes."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
        )
        for size in done.stdout.split():
            self.assertLess(int(size), 400)
