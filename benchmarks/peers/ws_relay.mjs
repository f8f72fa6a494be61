// The relay with Node's `ws`: send() to each client that is open.
//
//     node ws_relay.mjs PORT UPSTREAM_PORT
//
// With TLS_KEY and TLS_CERTIFICATE, two PEM files, the clients have TLS.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import WebSocket, { WebSocketServer } from "ws";

const LOGIN = '{"action":"auth","key":"any","secret":"any"}';
const LISTEN = '{"action":"listen","data":{"streams":["trade_updates"]}}';
const AUTHENTICATED = '[{"T":"success","msg":"authenticated"}]';

const [port, upstreamPort] = process.argv.slice(2).map(Number);
const clients = new Set();

const { TLS_KEY, TLS_CERTIFICATE } = process.env;
const http = TLS_KEY
  ? createTlsServer({ key: readFileSync(TLS_KEY), cert: readFileSync(TLS_CERTIFICATE) })
  : createServer();
const server = new WebSocketServer({ server: http, perMessageDeflate: false });
http.listen({ host: "127.0.0.1", port, backlog: 1024 });
server.on("connection", (client) => {
  client.on("error", () => client.terminate());
  client.on("close", () => clients.delete(client));
  client.once("message", () => {
    client.send(AUTHENTICATED);
    clients.add(client);
  });
});

const upstream = new WebSocket(`ws://127.0.0.1:${upstreamPort}/stream`);
let answers = 0;
upstream.on("open", () => upstream.send(LOGIN));
upstream.on("message", (event) => {
  if (answers < 2) {
    if (++answers === 1) upstream.send(LISTEN);
    return;
  }
  for (const client of clients) {
    if (client.readyState === WebSocket.OPEN) client.send(event, { binary: false });
  }
});
upstream.on("close", () => process.exit(0));
