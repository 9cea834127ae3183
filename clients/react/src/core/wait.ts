/** Waiting for a server that is away: longer and longer, at random, and never past an abort. */

export interface RetryOptions {
  /** The first wait, in milliseconds (500). A stream's own `retry:` line wins. */
  base?: number
  /** The longest wait, in milliseconds (10,000). A `Retry-After` beyond it is honoured. */
  cap?: number
  /** How often a request is sent at most (5). Joining a run, its stream and its abort are tried for ever. */
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

  /** All is well again. */
  reset(): void {
    this.#times = 0
  }

  /** Milliseconds to wait now; half of it is chance, so that a thousand pages do not come back at once. */
  next(asked = 0): number {
    const longest = Math.min(this.#cap, this.base * 2 ** this.#times++)
    return Math.max(asked, longest * (0.5 + Math.random() / 2))
  }
}

/** Resolves after `ms`, or at once when `signal` aborts. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener("abort", done)
      resolve()
    }
    const timer = setTimeout(done, Math.min(ms, 2e9)) // a timer for longer than 24 days goes off at once
    signal?.addEventListener("abort", done)
    if (signal?.aborted) done()
  })
}
