// eventsource, the browser API for Node.js: it reconnects and resumes by itself.

// snippet:
import { EventSource } from "eventsource";

const updates = new EventSource("http://localhost:8099/trade-updates-paper/v2/events/trades");

updates.onmessage = (message) => {
  const { event, order, event_id } = JSON.parse(message.data);
  console.log(JSON.stringify({ event, order: order.id, id: event_id }));
};
updates.onerror = (error) => console.error(error.code, error.message);
// snippet end
