import ccxt from "ccxt";

const exchange = new ccxt.pro.alpaca({ apiKey: "any", secret: "any" });
exchange.urls["api"]["ws"]["trading"] = "ws://localhost:8099/trade-updates-paper";
await exchange.loadHttpProxyAgent(); // ccxt needs it for ws:// instead of wss://
exchange.setMarkets([]); // without real keys; otherwise ccxt requests the markets from Alpaca

process.on("unhandledRejection", console.error); // ccxt does not catch a send that fails

for (;;) {
  try {
    for (const order of await exchange.watchOrders()) console.log(order.info.status, order.id);
  } catch (error) {
    if (!(error instanceof ccxt.NetworkError)) throw error;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
