import { EventSource } from "eventsource";

const updates = new EventSource("http://localhost:8099/trade-updates-paper/v2/events/trades");

updates.onmessage = (message) => {
  const { event, order } = JSON.parse(message.data);
  console.log(event, order.id);
};
updates.onerror = (error) => console.error(error.code, error.message);
