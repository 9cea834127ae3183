/** What the browser says about the network and the page. Where there is no browser, nothing is ever said. */

const CHANGES = ["offline", "online", "visibilitychange"] as const
/** `visibilitychange`: a person looks at the page again. */
export type NetworkChange = (typeof CHANGES)[number]

/** Calls the listener for every change. Returns the function that ends it. */
export function watchNetwork(listener: (change: NetworkChange) => void): () => void {
  const { document } = globalThis
  const life = new AbortController()
  for (const change of document ? CHANGES : []) {
    const call = () => (change === "visibilitychange" && document.hidden) || listener(change)
    addEventListener(change, call, life)
  }
  return () => life.abort()
}

/** The browser has no network. */
export function isOffline(): boolean {
  return globalThis.navigator?.onLine === false
}
