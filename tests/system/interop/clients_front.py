"""Clients behind the reverse proxies of docs/reverse-proxy.md."""

from __future__ import annotations

import os

from tests.system.interop.clients import InteropClient

CONFIGURATIONS = {"nginx": "nginx.conf", "HAProxy": "haproxy.cfg", "Caddy": "Caddyfile"}
"""The configurations by program; its Debian package is the name in lower case."""

AUTHORITY = "../front/authority.pem"
SKIPPED = "" if os.getuid() == 0 else "port 443 needs root"

OUTAGE = 6
"""Seconds. An EventSource tries again after three: the reverse proxy answers meanwhile."""

SETTINGS = {"PROXY_TRUSTED_PROXIES": "127.0.0.1"}


def _front(name: str) -> tuple[InteropClient, InteropClient]:
    return (
        InteropClient(
            f"websockets 17.4 behind {name}",
            ("python",),
            "behind_websockets.py",
            pip=("websockets==17.4",),
            debian=(name.lower(),),
            front=CONFIGURATIONS[name],
            settings=SETTINGS,
            skipped=SKIPPED,
            environment={"SSL_CERT_FILE": AUTHORITY},
            outage=OUTAGE,
            resumes=True,
        ),
        InteropClient(
            f"eventsource 4.1.1 behind {name}",
            ("node",),
            "behind_eventsource.mjs",
            npm=("eventsource@4.1.1",),
            debian=(name.lower(),),
            front=CONFIGURATIONS[name],
            settings=SETTINGS,
            skipped=SKIPPED,
            environment={"NODE_EXTRA_CA_CERTS": AUTHORITY},
            outage=OUTAGE,
            resumes=True,
        ),
    )


CLIENTS = tuple(client for name in CONFIGURATIONS for client in _front(name))
