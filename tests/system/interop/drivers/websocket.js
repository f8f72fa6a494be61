let position = "";

function connect() {
  const url = "ws://localhost:8099/trade-updates-paper?proxy_status=1";
  const socket = new WebSocket(url + position);
  socket.onopen = () => socket.send(JSON.stringify({ action: "auth", key: "any", secret: "any" }));
  socket.onmessage = (message) => {
    const { stream, data, cursor = data?.cursor } = JSON.parse(message.data);
    if (cursor) position = `&since_id=${cursor}`;
    if (data?.state === "impossible") console.error(`missing events: ${data.reason}`);
    if (stream === "trade_updates") console.log(data.event, data.order.id);
  };
  socket.onclose = socket.onerror = ({ type, code, reason }) => {
    console.error(type, code, reason);
    socket.onclose = socket.onerror = null; // one retry for both
    setTimeout(connect, 1000);
  };
}

connect();
