"""The limits of this process: open files, and the part of them that is reserved; core dumps."""

from __future__ import annotations

import resource

RESERVE = 64
"""Open files beside accepted sockets: listeners, upstreams, journals, logs, Python's own."""

ACCOUNTS_IN_RESERVE = 4
"""Accounts for which RESERVE is enough."""

PER_ACCOUNT = 10
"""Open files of a further account: its upstream, a REST request, and its journal or Redis."""

_CORE_AT_START = resource.getrlimit(resource.RLIMIT_CORE)


def reserve_for(accounts: int) -> int:
    """Return how many open files are kept for other things than accepted sockets."""
    return RESERVE + PER_ACCOUNT * max(0, accounts - ACCOUNTS_IN_RESERVE)


def raise_file_limit(
    clients: int, sockets: int | None = None, reserve: int = RESERVE
) -> str | None:
    """Raise the limit of open files, often 1,024, so that each client can have its socket.

    Args:
        clients: how many clients may log in, for the line that is returned.
        sockets: how many sockets may be open for them and for handshakes; None for one each.
        reserve: how many open files are needed besides.

    Returns a line for the user if less is allowed. On Linux all of the hard limit is used then;
    macOS may reject that, and the limit stays.
    """
    wanted = (clients if sockets is None else sockets) + reserve
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return None
    allowed = wanted if hard == unlimited else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        # macOS rejects values above its kernel limit, even if `hard` is higher.
        allowed = soft
    if allowed == wanted:
        return None
    return (
        f"PROXY_MAX_CLIENTS: {clients} needs {wanted} open files, and this process gets {allowed}"
    )


def forbid_core_dumps() -> str | None:
    """Set the soft limit of a core dump to 0: it would contain the keys.

    Returns a line for the user if that is not allowed, as under some seccomp filters.
    """
    return _set_core_limit(0)


def restore_core_dumps() -> None:
    """Undo `forbid_core_dumps`: set the limit that the process had at its start."""
    _set_core_limit(_CORE_AT_START[0])


def _set_core_limit(soft: int) -> str | None:
    before, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if before == soft:
        return None
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    except (OSError, ValueError):  # ValueError stands for EPERM
        return "PROXY_CORE_DUMPS: the limit of core dumps cannot be changed; a dump has the keys"
    return None


def count_free_files(reserve: int) -> int | None:
    """Return the limit of open files minus a reserve; None if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft - reserve
