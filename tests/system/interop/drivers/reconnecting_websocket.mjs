import ReconnectingWebSocket from "reconnecting-websocket";
import WebSocket from "ws";

let position = "";
const url = () => `ws://localhost:8099/trade-updates-paper${position}`; // for each connection
const socket = new ReconnectingWebSocket(url, [], { WebSocket });

socket.addEventListener("open", () => {
  socket.send(JSON.stringify({ action: "auth", key: "any", secret: "any" }));
});
socket.addEventListener("message", (message) => {
  const { stream, data } = JSON.parse(message.data);
  if (stream !== "trade_updates") return;
  console.log(data.event, data.order.id);
  position = `?since_id=${data.event_id}`;
});
