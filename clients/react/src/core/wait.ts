/** Delays between retries while the server is unavailable: exponential, with jitter, and ended by an abort. */
import { watchNetwork } from "./network"

export interface RetryOptions {
  /** The first delay, in milliseconds (500). A stream's `retry:` line replaces it. */
  base?: number
  /** The longest delay, in milliseconds (10,000). A longer `Retry-After` is honoured. */
  cap?: number
  /** How often a request is sent at most (5). Joining a run, its stream and its abort are retried without limit. */
  attempts?: number
}

export class Backoff {
  #times = 0
  base: number
  readonly #cap: number

  constructor({ base = 500, cap = 10_000 }: RetryOptions) {
    this.base = base
    this.#cap = cap
  }

  /** Starts again from the shortest delay. */
  reset(): void {
    this.#times = 0
  }

  /** Returns the milliseconds to wait now; half of them random, so that a thousand pages do not reconnect at once. */
  next(retryAfter = 0): number {
    const limit = Math.min(this.#cap, this.base * 2 ** this.#times++)
    return Math.max(retryAfter, limit * (0.5 + Math.random() / 2))
  }
}

/**
 * Resolves after `ms`, at once when `signal` aborts, and, with `wakes`, when the network is back or somebody looks at
 * the page again.
 */
export function sleep(ms: number, signal?: AbortSignal, wakes = false): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener("abort", done)
      unwatch?.()
      resolve()
    }
    const timer = setTimeout(done, Math.min(ms, 2e9)) // a timer of more than 24 days fires at once
    const unwatch = wakes ? watchNetwork((change) => change !== "offline" && done()) : undefined
    signal?.addEventListener("abort", done)
    if (signal?.aborted) done()
  })
}
