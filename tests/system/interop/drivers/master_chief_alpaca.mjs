import { AlpacaStream } from "@master-chief/alpaca";

let position = "";

function connect() {
  const url = "ws://localhost:8099/trade-updates-paper?proxy_status=1";
  const stream = new AlpacaStream({
    credentials: { key: "any", secret: "any" },
    type: "account",
    endpoints: { websocket: { account: url + position } },
  });
  stream.on("authenticated", () => stream.subscribe("trade_updates"));
  stream.on("message", ({ data, cursor = data.cursor }) => {
    if (cursor) position = `&since_id=${cursor}`;
    if (data.state === "impossible") console.error(`missing events: ${data.reason}`);
  });
  stream.on("trade_updates", (update) => {
    const { event, order } = update.raw(); // update.event_id is NaN: the SDK converts it
    console.log(event, order.id);
  });
  stream.on("close", () => setTimeout(connect, 1000));
}

connect();
