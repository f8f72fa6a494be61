"""The clients in Python that are not made for Alpaca."""

from __future__ import annotations

from typing import Any

from tests.system.interop.clients import InteropClient


def _python(name: str, driver: str, *pip: str, **more: Any) -> InteropClient:
    return InteropClient(name, ("python",), driver, pip=pip, **more)


WEBSOCKETS = _python("websockets 17.4", "websockets_client.py", "websockets==17.4", resumes=True)

CLIENTS = (
    _python(
        "Alpaca's documentation, with websockets 17.4",
        "alpaca_documented.py",
        "websockets==17.4",
        needs="the path `…/stream`",
    ),
    WEBSOCKETS,
    _python(
        "websocket-client 1.9.2", "websocket_client.py", "websocket-client==1.9.2", resumes=True
    ),
    _python("aiohttp 3.14.5", "aiohttp_client.py", "aiohttp==3.14.5", resumes=True),
    _python("picows 2.3.1", "picows_client.py", "picows==2.3.1", resumes=True),
    _python("Twisted 26.10.0", "twisted_web.py", "twisted[websocket]==26.10.0", resumes=True),
    _python(
        "httpx-sse 0.4.3", "httpx_sse_client.py", "httpx-sse==0.4.3", "httpx==0.28.1", resumes=True
    ),
    _python(
        "httpx-ws 0.9.0", "httpx_ws_client.py", "httpx-ws==0.9.0", "httpx==0.28.1", resumes=True
    ),
    _python("tornado 6.6.1", "tornado_client.py", "tornado==6.6.1", resumes=True),
    _python("autobahn 26.10.2", "autobahn_client.py", "autobahn==26.10.2", resumes=True),
    _python("trio-websocket 0.12.2", "trio_client.py", "trio-websocket==0.12.2", resumes=True),
)
