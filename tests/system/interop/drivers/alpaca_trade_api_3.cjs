const Alpaca = require("@alpacahq/alpaca-trade-api");

const alpaca = new Alpaca({
  keyId: "any",
  secretKey: "any",
  baseUrl: "http://localhost:8099/trade-updates-paper",
});

const updates = alpaca.trade_ws;
updates.onConnect(() => updates.subscribe(["trade_updates"]));
updates.onOrderUpdate(({ event, order }) => console.log(event, order.id));
updates.connect();
