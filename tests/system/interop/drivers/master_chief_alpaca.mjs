// @master-chief/alpaca 6, which does not reconnect by itself.

// snippet:
import { AlpacaStream } from "@master-chief/alpaca";

let last;

function connect() {
  const url = "ws://localhost:8099/trade-updates-paper";
  const stream = new AlpacaStream({
    credentials: { key: "any", secret: "any" },
    type: "account",
    endpoints: { websocket: { account: last ? `${url}?since_id=${last}` : url } },
  });
  stream.on("authenticated", () => stream.subscribe("trade_updates"));
  stream.on("trade_updates", (update) => {
    const { event, order, event_id } = update.raw(); // update.event_id is NaN: the SDK converts it
    last = event_id;
    console.log(JSON.stringify({ event, order: order.id, id: event_id }));
  });
  stream.on("close", () => setTimeout(connect, 1000));
}

connect();
// snippet end
