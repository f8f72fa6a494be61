// JSON as Alpaca may send it. NaN and Infinity are no JSON, but the proxy forwards every byte.

const TOKEN = /"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)/g;

/** Parse a text as JSON.parse does; NaN, Infinity and -Infinity become strings. */
export function parse(text, reviver) {
  try {
    return JSON.parse(text, reviver);
  } catch {
    const quoted = text.replace(TOKEN, (token) => (token[0] === '"' ? token : `"${token}"`));
    return JSON.parse(quoted, reviver);
  }
}
