"""A network of this process's own: its port 8099 is free, and nothing but itself is reachable."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from fcntl import ioctl
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
LOOPBACK_UP = struct.pack("16sh14x", b"lo", IFF_UP)
"""`struct ifreq`: the loopback interface, up."""


def isolate() -> bool:
    """Move this process into a network namespace with loopback only; Linux.

    Returns whether it succeeded. A user who is not root gets a user namespace too, which some
    systems do not permit. No other thread may run.
    """
    user, group = os.getuid(), os.getgid()
    flags = CLONE_NEWNET | (CLONE_NEWUSER if user else 0)
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(flags):
            return False
    except AttributeError:  # not Linux
        return False
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket() as any_socket:
        ioctl(any_socket, SIOCSIFFLAGS, LOOPBACK_UP)
    return True
