/** Web Locks as the standard has them, for the tabs of a test, which are all in one process. */

interface Waiting {
  name: string
  grant(): void
  /** Rejects the request of a lock that another has stolen. */
  reject(error: unknown): void
}

export class FakeLocks {
  readonly #held = new Map<string, Waiting>()
  #queue: Waiting[] = []

  request(name: string, options: LockOptions, callback: (lock: Lock | null) => unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        name,
        reject,
        grant: () => {
          this.#held.set(name, waiting)
          Promise.resolve(callback({ name, mode: "exclusive" }))
            .then(resolve, reject)
            .finally(() => {
              if (this.#held.get(name) !== waiting) return // stolen
              this.#held.delete(name)
              this.#next(name)
            })
        },
      }
      const abort = () => {
        this.#queue = this.#queue.filter((one) => one !== waiting)
        if (this.#held.get(name) !== waiting) reject(new DOMException("given up", "AbortError"))
      }
      if (options.signal?.aborted) return abort()
      options.signal?.addEventListener("abort", abort)
      if (options.steal) {
        this.#held.get(name)?.reject(new DOMException("stolen", "AbortError"))
        waiting.grant()
      } else if (options.ifAvailable && this.#held.has(name)) {
        Promise.resolve(callback(null)).then(resolve, reject)
      } else {
        this.#queue.push(waiting)
        this.#next(name)
      }
    })
  }

  #next(name: string): void {
    if (this.#held.has(name)) return
    const next = this.#queue.find((one) => one.name === name)
    if (!next) return
    this.#queue = this.#queue.filter((one) => one !== next)
    next.grant()
  }
}
