// Runs a script in a browser page: first on other origins, which must be rejected, then on the proxy's origin.
//
// The proxy does not serve the page. To get its origin, this opens /healthz and replaces its content.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import puppeteer from "puppeteer-core";

const { BROWSER, PROGRAM, REFUSED } = process.env;
const html = `<!doctype html><title>Trade updates</title><script>${await readFile(process.argv[2])}</script>`;

const server = createServer((_, response) => response.setHeader("content-type", "text/html").end(html));
await new Promise((listening) => server.listen(0, listening));
const { port } = server.address();

const browser = await puppeteer.launch({
  browser: BROWSER,
  executablePath: PROGRAM,
  args: BROWSER === "chrome" ? ["--no-sandbox", "--disable-gpu", "--no-first-run"] : [],
});

for (const site of [`http://localhost:${port}`, `http://127.0.0.1:${port}`]) {
  const page = await browser.newPage();
  const printed = [];
  const refused = new Promise((resolve) =>
    page.on("console", (message) => {
      printed.push(message.text());
      if (message.text().startsWith(REFUSED)) resolve();
    }),
  );
  await page.goto(site);
  await refused;
  if (printed.some((line) => / [0-9a-f-]{36}/.test(line))) throw new Error(`${site} got an event`);
  await page.close();
}
server.close();

const page = await browser.newPage();
page.on("console", (message) => console.log(message.text()));
await page.goto("http://localhost:8099/healthz");
await page.setContent(html, { waitUntil: "domcontentloaded" });
