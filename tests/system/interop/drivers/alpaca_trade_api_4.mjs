// @alpacahq/alpaca-trade-api 4, the TypeScript SDK that replaces version 3.

// snippet:
import { Alpaca } from "@alpacahq/alpaca-trade-api";

const alpaca = new Alpaca({ keyId: "any", secret: "any" });
const updates = alpaca.trading.stream({
  url: "ws://localhost:8099/trade-updates-paper",
  maxReconnectAttempts: -1, // no limit, instead of ten attempts
});
updates.onConnect(() => updates.subscribeTradeUpdates());
updates.onTradeUpdate(({ event, order, event_id }) =>
  console.log(JSON.stringify({ event, order: order.id, id: event_id })),
);
updates.connect();
// snippet end
