"""The limit of open files, raised to one socket for each client."""

from __future__ import annotations

import resource

SPARE_DESCRIPTORS = 64
"""Open files beside the clients' sockets: listeners, upstreams, logs, Python's own."""


def raise_file_limit(clients: int) -> str | None:
    """Raise the limit of open files (often 1,024) to one socket for each client.

    If the hard limit is too low, raise it to the hard limit and return a warning for the user.
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
    ):  # macOS rejects values above its kernel limit, even if `hard` is higher
        allowed = soft
    if allowed == wanted:
        return None
    return f"PROXY_MAX_CLIENTS: {clients} clients need {wanted} open files, and this process gets {allowed}"
