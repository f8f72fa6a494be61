import WebSocket from "ws";

let position = "";

function connect() {
  const url = "ws://localhost:8099/trade-updates-paper?proxy_status=1";
  const socket = new WebSocket(url + position);
  const login = JSON.stringify({ action: "auth", key: "any", secret: "any" });
  socket.on("open", () => socket.send(login));
  socket.on("message", (text) => {
    const { stream, data, cursor = data?.cursor } = JSON.parse(text);
    if (cursor) position = `&since_id=${cursor}`;
    if (data?.state === "impossible") console.error(`missing events: ${data.reason}`);
    if (stream !== "trade_updates") return;
    console.log(data.event, data.order.id);
  });
  socket.on("error", (error) => console.error(error.message));
  socket.on("close", (code, reason) => {
    console.error(`closed: ${code} ${reason}`);
    setTimeout(connect, 1000);
  });
}

connect();
