"""The clients in Node.js."""

from __future__ import annotations

from tests.system.interop.clients import Column, InteropClient, Runtime

SDK_3 = "@alpacahq/alpaca-trade-api@3.1.3"
SDK_4 = "@alpacahq/alpaca-trade-api@4.0.2"
WS = "ws@8.23.0"

CLIENTS = (
    InteropClient(
        "@alpacahq/alpaca-trade-api 3.1.3",
        Runtime.NODE,
        "alpaca_trade_api_3.cjs",
        (SDK_3,),
        not_applicable={Column.RESUMES: "it appends /stream to the URL, so a query is impossible"},
    ),
    InteropClient(
        "@alpacahq/alpaca-trade-api 4.0.2",
        Runtime.NODE,
        "alpaca_trade_api_4.mjs",
        (SDK_4,),
        not_applicable={Column.RESUMES: "it reconnects to its first URL; see the next line"},
    ),
    InteropClient(
        "@alpacahq/alpaca-trade-api 4.0.2 with wsFactory",
        Runtime.NODE,
        "alpaca_trade_api_4_resuming.mjs",
        (SDK_4, WS),
        resumes=True,
    ),
    InteropClient(
        "@master-chief/alpaca 6.3.20",
        Runtime.NODE,
        "master_chief_alpaca.mjs",
        ("@master-chief/alpaca@6.3.20",),
        resumes=True,
    ),
    InteropClient("ws 8.23.0", Runtime.NODE, "ws.mjs", (WS,), resumes=True),
    InteropClient(
        "eventsource 4.1.1", Runtime.NODE, "eventsource.mjs", ("eventsource@4.1.1",), resumes=True
    ),
)
