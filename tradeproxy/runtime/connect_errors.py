"""Why a connection could not be opened, in one phrase. It imports neither Twisted nor asyncio."""

from __future__ import annotations

import os
import re
import ssl

_ERRNO = re.compile(r"\[Errno ([0-9]+)\]")
"""In the text of asyncio's error for a host with several addresses, which has no `errno`."""

_PHRASES = {
    "DNSLookupError": "the host name has no address",
    "gaierror": "the host name has no address",
    "TimeoutError": "no answer in time",
    "TCPTimedOutError": "no answer in time",
}
"""By the name of the class, in Twisted or in the standard library."""


def describe_connect_error(error: BaseException) -> str:
    """Return the cause, such as "connection refused".

    Twisted repeats it ("Connection was refused by other side: 111: Connection refused.").
    """
    if phrase := _PHRASES.get(type(error).__name__):
        return phrase
    if isinstance(error, ssl.SSLError):  # its `errno` is a code of OpenSSL
        return str(error)
    found = _ERRNO.search(str(error))
    number = found and int(found[1])
    for given in (getattr(error, "osError", None), getattr(error, "errno", None), number):
        if isinstance(given, int) and given > 0:
            return os.strerror(given).lower()
    return str(error)
