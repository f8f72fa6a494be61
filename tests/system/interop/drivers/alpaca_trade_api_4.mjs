import { Alpaca } from "@alpacahq/alpaca-trade-api";

const alpaca = new Alpaca({ keyId: "any", secret: "any" });
const updates = alpaca.trading.stream({
  url: "ws://localhost:8099/trade-updates-paper",
  maxReconnectAttempts: -1, // no limit, instead of ten attempts
});
updates.onConnect(() => updates.subscribeTradeUpdates());
updates.onTradeUpdate(({ event, order }) => console.log(event, order.id));
updates.connect();
