// Controls a page in Chromium: each line of JSON is a command, and gets one line as its answer.
//
// "console" returns the errors and warnings so far, "requests" every URL that the page requested.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE = 15000;

const { CHROMIUM, MODULES } = process.env;
const { chromium } = createRequire(`${MODULES}/`)("playwright-core");

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
const page = await browser.newPage({ viewport: { width: 1360, height: 850 } });
const complaints = [];
const requests = [];
page.on("console", (message) => {
  if (["error", "warning"].includes(message.type())) complaints.push(message.text());
});
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("dialog", (dialog) => complaints.push(`dialog: ${dialog.message()}`));
page.on("request", (request) => requests.push(request.url()));
page.on("websocket", (socket) => requests.push(socket.url()));
page.setDefaultTimeout(PATIENCE);

const does = {
  prepare: ({ text }) => page.addInitScript(text).then(() => null), // runs before the page's scripts
  open: ({ url }) => page.goto(url).then(() => null),
  click: ({ at }) => page.click(at),
  fill: ({ at, text }) => page.fill(at, text),
  choose: ({ at, text }) => page.selectOption(at, text),
  evaluate: ({ text }) => page.evaluate(text),
  wait: async ({ text }) => {
    // Playwright's own wait uses eval on the page, which the content security policy forbids.
    for (const end = Date.now() + PATIENCE; !(await page.evaluate(text)); await sleep(50)) {
      if (Date.now() < end) continue;
      throw new Error(`timeout; the page is:\n${await page.innerText("body")}`);
    }
  },
  console: () => complaints.splice(0),
  requests: () => requests,
  size: (size) => page.setViewportSize(size),
  picture: async ({ path, width, height, scheme }) => {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: scheme });
    await page.screenshot({ path });
  },
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    console.log(JSON.stringify({ value: (await does[order.do](order)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: `${line}: ${error.message}` }));
  }
}
await browser.close();
