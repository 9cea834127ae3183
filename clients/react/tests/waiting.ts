/** Waiting in tests: long enough for a machine that has much else to do. */
import { vi } from "vitest"

/** Until `check` does not throw any more. */
export function eventually<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, { timeout: 10_000, interval: 10 })
}

/** Long enough for anything that must not happen to have happened. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 80))
}
