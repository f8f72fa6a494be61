// @alpacahq/alpaca-trade-api 4; with wsFactory each connection resumes after the last event.

// snippet:
import { Alpaca } from "@alpacahq/alpaca-trade-api";
import WebSocket from "ws";

let last;

const alpaca = new Alpaca({ keyId: "any", secret: "any" });
const updates = alpaca.trading.stream({
  url: "ws://localhost:8099/trade-updates-paper",
  maxReconnectAttempts: -1,
  wsFactory: (url) => new WebSocket(last ? `${url}?since_id=${last}` : url),
});
updates.onConnect(() => updates.subscribeTradeUpdates());
updates.onTradeUpdate(({ event, order, event_id }) => {
  last = event_id;
  console.log(JSON.stringify({ event, order: order.id, id: event_id }));
});
updates.connect();
// snippet end
