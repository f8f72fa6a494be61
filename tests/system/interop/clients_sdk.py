"""Alpaca's own SDKs, and the trading libraries that include a client for Alpaca."""

from __future__ import annotations

from typing import Any

from tests.system.interop.clients import Column, InteropClient

JS_SDK = "@alpacahq/alpaca-trade-api"
ORDERS = "it reports orders, not events"
MULTI_LEG = "a multi-leg order stops it, so none was sent"


def _python(name: str, driver: str, *pip: str, **more: Any) -> InteropClient:
    return InteropClient(name, ("python",), driver, pip=pip, **more)


def _node(name: str, driver: str, *npm: str, **more: Any) -> InteropClient:
    return InteropClient(name, ("node",), driver, npm=npm, **more)


OLD_ALPACA_PY = _python(
    "alpaca-py 0.43.5", "alpaca_py.py", "alpaca-py==0.43.5", needs="`url_override`"
)

CLIENTS = (
    _python("alpaca-py 0.44.0", "alpaca_py.py", "alpaca-py==0.44.0", needs="`url_override`"),
    OLD_ALPACA_PY,
    *(
        _python(
            f"alpaca-py {version} with raw_data",
            "alpaca_py_raw.py",
            f"alpaca-py=={version}",
            needs="`url_override`, `raw_data`",
        )
        for version in ("0.30.1", "0.21.1")
    ),
    _python(
        "alpaca-trade-api 3.2.0",
        "alpaca_trade_api_stream.py",
        "alpaca-trade-api==3.2.0",
        needs="`base_url`",
    ),
    _python(
        "alpaca-trade-api 2.3.0",
        "alpaca_trade_api_stream.py",
        "alpaca-trade-api==3.2.0",  # its packages: those of 2.3.0 do not compile for Python 3.11
        pip_alone=("alpaca-trade-api==2.3.0",),
        needs="`base_url`",
    ),
    _python(
        "lumibot 4.6.30",
        "lumibot_broker.py",
        "lumibot==4.6.30",
        files=("proxied_lumibot.py",),
        needs="a subclass; real keys for orders",
    ),
    _python(
        "alpaca-backtrader-api 0.15.0",
        "backtrader_updates.py",
        # It requires a NumPy that Python 3.11 cannot run.
        *("alpaca-trade-api==3.2.0", "backtrader==1.9.78.123", "exchange-calendars", "pytz"),
        pip_alone=("alpaca-backtrader-api==0.15.0",),
        files=("backtrader_store.py",),
        settings={"PROXY_REST": "1"},
        orders_only=True,
        remarks={Column.ALL_EVENTS: ORDERS},
        needs="`_ENV_PRACTICE_URL`; `PROXY_REST=1` and real keys",
    ),
    _python(
        "ccxt pro 4.5.90 (Python)",
        "ccxt_pro.py",
        "ccxt==4.5.90",
        orders_only=True,
        fails_on_multi_leg=True,
        remarks={Column.ALL_EVENTS: f"{ORDERS}; {MULTI_LEG}"},
        needs="`urls`, and `set_markets` without real keys",
    ),
    _node(
        "ccxt 4.5.84 (JavaScript)",
        "ccxt_js.mjs",
        "ccxt@4.5.84",
        orders_only=True,
        fails_on_multi_leg=True,
        remarks={Column.ALL_EVENTS: f"{ORDERS}; {MULTI_LEG}"},
        needs="`urls`, and `setMarkets` without real keys",
    ),
    _node(
        f"{JS_SDK} 3.1.3",
        "alpaca_trade_api_3.cjs",
        f"{JS_SDK}@3.1.3",
        needs="`baseUrl`",
    ),
    _node(
        f"{JS_SDK} 2.16.1",
        "alpaca_trade_api_3.cjs",
        f"{JS_SDK}@2.16.1",
        needs="`baseUrl`",
    ),
    _node(
        f"{JS_SDK} 4.0.2",
        "alpaca_trade_api_4.mjs",
        f"{JS_SDK}@4.0.2",
        needs="`url`, `maxReconnectAttempts`",
    ),
    _node(
        f"{JS_SDK} 4.0.2 with wsFactory",
        "alpaca_trade_api_4_resuming.mjs",
        f"{JS_SDK}@4.0.2",
        "ws@8.23.0",
        resumes=True,
        needs="`wsFactory`",
    ),
    _node(
        "@master-chief/alpaca 6.3.20",
        "master_chief_alpaca.mjs",
        "@master-chief/alpaca@6.3.20",
        resumes=True,
        needs="`endpoints`, a retry",
    ),
)
