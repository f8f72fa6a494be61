from alpaca.trading.stream import TradingStream
from lumibot.brokers import Alpaca


class ProxiedAlpaca(Alpaca):
    def _get_stream_object(self):
        return TradingStream("any", "any", url_override="ws://localhost:8099/trade-updates-paper")
