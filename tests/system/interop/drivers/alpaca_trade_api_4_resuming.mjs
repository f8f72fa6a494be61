import { Alpaca } from "@alpacahq/alpaca-trade-api";
import WebSocket from "ws";

let position = "";

const alpaca = new Alpaca({ keyId: "any", secret: "any" });
const updates = alpaca.trading.stream({
  url: "ws://localhost:8099/trade-updates-paper?proxy_status=1",
  maxReconnectAttempts: -1,
  wsFactory: (url) => {
    const socket = new WebSocket(url + position);
    socket.on("message", (text) => {
      const { data, cursor = data?.cursor } = JSON.parse(text);
      if (cursor) position = `&since_id=${cursor}`;
      if (data?.state === "impossible") console.error(`missing events: ${data.reason}`);
    });
    return socket;
  },
});
updates.onConnect(() => updates.subscribeTradeUpdates());
updates.onTradeUpdate(({ event, order }) => console.log(event, order.id));
updates.connect();
