// @alpacahq/alpaca-trade-api 3, the JavaScript SDK that most bots use.

// snippet:
const Alpaca = require("@alpacahq/alpaca-trade-api");

const alpaca = new Alpaca({
  keyId: "any",
  secretKey: "any",
  baseUrl: "http://localhost:8099/trade-updates-paper",
});

const updates = alpaca.trade_ws;
updates.onConnect(() => updates.subscribe(["trade_updates"]));
updates.onOrderUpdate(({ event, order, event_id }) =>
  console.log(JSON.stringify({ event, order: order.id, id: event_id })),
);
updates.connect();
// snippet end
