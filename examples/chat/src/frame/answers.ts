/** Lets views know that an answer was accepted in this tab, so that they need not wait for their next request. */
import { useSyncExternalStore } from "react"

let count = 0
const listeners = new Set<() => void>()

/** Notes that the server has accepted an answer to a pending item. */
export function noteAnswer(): void {
  count += 1
  for (const listener of listeners) listener()
}

/** Returns how many answers this tab has given. */
export function useAnswerCount(): number {
  return useSyncExternalStore(subscribe, () => count)
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}
