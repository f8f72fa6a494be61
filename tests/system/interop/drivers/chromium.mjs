// Opens a page in Chromium: first on other origins, which must be rejected, then on the proxy's origin.
//
// The proxy does not serve the page. To get its origin, this opens /healthz and replaces its content.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { chromium } from "playwright-core";

const { CHROMIUM, REFUSED, TRADEPROXY_HTTP } = process.env;
const html = await readFile(process.argv[2], "utf-8");

const server = createServer((_, response) => response.setHeader("content-type", "text/html").end(html));
await new Promise((listening) => server.listen(0, listening));
const { port } = server.address();

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});

for (const site of [`http://localhost:${port}`, `http://127.0.0.1:${port}`]) {
  const page = await browser.newPage();
  const said = [];
  page.on("console", (message) => said.push(message.text()));
  const refused = page.waitForEvent("console", (message) => message.text().includes(REFUSED));
  await page.goto(site);
  await refused;
  if (said.some((line) => line.startsWith("{"))) throw new Error(`a page of ${site} was sent an event`);
  await page.close();
}
server.close();

const page = await browser.newPage();
page.on("console", (message) => console.log(message.text()));
await page.goto(`${new URL(TRADEPROXY_HTTP).origin}/healthz`);
await page.setContent(html);
