// ws, the WebSocket library for Node.js.

// snippet:
import WebSocket from "ws";

let last;

function connect() {
  const url = "ws://localhost:8099/trade-updates-paper";
  const socket = new WebSocket(last ? `${url}?since_id=${last}` : url);
  const login = JSON.stringify({ action: "auth", key: "any", secret: "any" });
  socket.on("open", () => socket.send(login));
  socket.on("message", (text) => {
    const { stream, data } = JSON.parse(text);
    if (stream !== "trade_updates") return; // the reply to auth
    last = data.event_id;
    console.log(JSON.stringify({ event: data.event, order: data.order.id, id: data.event_id }));
  });
  socket.on("error", (error) => console.error(error.message));
  socket.on("close", (code, reason) => {
    console.error(`closed: ${code} ${reason}`);
    if (code === 4010) last = undefined; // this position is no longer stored
    setTimeout(connect, 1000);
  });
}

connect();
// snippet end
