"""The limit of open files: raised so that every client can have its socket."""

from __future__ import annotations

import resource

SPARE_DESCRIPTORS = 64
"""Open files beside the clients' sockets: listeners, upstreams, logs, Python's own."""


def raise_file_limit(clients: int) -> str | None:
    """Raise the limit of open files, often 1,024, so that each client can have its socket.

    Returns a line for the user where the hard limit is too low for that; it is then used in full.
    """
    wanted = clients + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return None
    allowed = wanted if hard == unlimited else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (
        OSError,
        ValueError,
    ):  # macOS refuses more than its kernel's own limit, whatever `hard` says
        allowed = soft
    if allowed == wanted:
        return None
    return f"PROXY_MAX_CLIENTS: {clients} clients need {wanted} open files, and this process gets {allowed}"
