"""Makes `twistd tradeproxy` known to Twisted."""

from twisted.application.service import ServiceMaker

tradeproxy = ServiceMaker(
    "tradeproxy",
    "tradeproxy.tap",
    "One Alpaca trade-updates connection per account, any number of local clients.",
    "tradeproxy",
)
