// The storage of this browser, or one that lasts as long as the page: a browser may allow none.

/** Return `localStorage` or `sessionStorage`, as `name` says. */
export function openStorage(name) {
  try {
    // Where site data is blocked, even the name is an error; some apps have null.
    if (globalThis[name]) return globalThis[name];
  } catch {
    // The same as null.
  }
  const kept = new Map();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  };
}
