// The pages about an account's state: orders, positions, events, strategies.

import { parse } from "./json.js";

const PATIENCE = 15000; // a search reads up to 20,000 events

/** Requests pages; `token()` returns the token or "", and `refused()` asks for another. */
export class Pages {
  constructor(token, refused) {
    this.token = token;
    this.refused = refused;
  }

  /**
   * Return a page below the path of an account: its `document` and `etag`, or `unchanged` if it is
   * still that of `etag`, or a `problem` as one sentence, which `isFinal` if another request does
   * not help. `query` has parameters; empty ones are left out. `signal` aborts the request.
   */
  async fetch(path, page, query = {}, { etag, signal } = {}) {
    const given = Object.entries(query).filter(([, value]) => (value ?? "") !== "");
    const url = new URL(`${path}/${page}?${new URLSearchParams(given)}`, document.baseURI);
    const headers = {};
    const token = this.token();
    if (token) headers.authorization = `Bearer ${token}`;
    if (etag) headers["if-none-match"] = etag;
    const limits = [AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])];
    try {
      const options = { headers, signal: AbortSignal.any(limits), credentials: "omit" };
      const answer = await fetch(url, { ...options, cache: "no-store" });
      if (answer.status === 304) return { unchanged: true };
      if (answer.status === 401) {
        this.refused();
        return { problem: explain(401) };
      }
      const found = parse(await answer.text());
      if (answer.ok) return { document: found, etag: answer.headers.get("etag") };
      const problem = explain(answer.status, String(found?.message ?? ""));
      return { problem, isFinal: answer.status < 500 };
    } catch {
      return signal?.aborted ? { unchanged: true } : { problem: explain(0) };
    }
  }
}

/** Return one sentence for an answer that is no page; without an answer `status` is 0. */
export function explain(status, text = "") {
  const message = text.replace(/^tradeproxy: /, "");
  if (status === 401) return "The proxy asks for a token.";
  if (status === 404 && message.includes("PROXY_BOOK")) {
    return "This proxy keeps no orders and positions: PROXY_BOOK=0.";
  }
  if (status === 503) return `${sentence(message || "not yet")} This page asks again.`;
  if (status === 0) return "The proxy does not answer. This page asks again.";
  if (status === 400) return `${message.slice(0, 300)}.`; // it begins with a parameter's name
  return sentence(message || `HTTP ${status}`);
}

function sentence(text) {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1, 300)}.`;
}
