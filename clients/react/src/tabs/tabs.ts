/**
 * What the tabs of a browser know together: which runs conversations have gone on to. Kept in `localStorage`, so that an
 * old link finds the newer run too, and announced over a BroadcastChannel. Where there is neither, a chat knows its own
 * runs only.
 */
import { follow } from "../core/follow"
import type { Branches, Tabs } from "../core/options"
import type { Beginning } from "../core/session"
import type { ConversationRun } from "../core/types"
import { type KnownRun, Lineage } from "./lineage"
import { followTogether } from "./stream"

const NAME = "agentkit.runs"
/** How many runs are kept, the newest. */
const KEPT = 500

/**
 * Makes what a chat shares with the other tabs of the browser. `isShared`: false for pages on which tabs may belong to
 * different people; the chat then knows its own runs alone. So it is where there is no browser: on a server.
 */
export function browserTabs(isShared = true): Tabs {
  return new BrowserTabs(isShared)
}

class BrowserTabs implements Tabs {
  readonly #isShared: boolean
  readonly #own = new Map<string, KnownRun>()
  #channel: BroadcastChannel | undefined
  #branches: Branches = {}
  /** What `#branches` was made of. */
  #shown = ""

  readonly follow: Tabs["follow"]

  constructor(isShared: boolean) {
    this.#isShared = isShared && !!globalThis.document
    this.follow = this.#isShared ? followTogether : follow
  }

  join(onRun: () => void): () => void {
    if (!this.#isShared || typeof BroadcastChannel === "undefined") return () => {}
    const channel = new BroadcastChannel(NAME)
    channel.onmessage = ({ data }) => {
      this.#remember(data)
      onRun()
    }
    this.#channel = channel
    return () => channel.close()
  }

  add(id: string, { from, instead, messages }: Beginning): void {
    const run = { id, from: from?.runId, turn: from?.turn, at: messages.length, instead }
    this.#remember(run)
    if (!this.#isShared) return
    this.#store([...this.#stored(), run].slice(-KEPT))
    this.#channel?.postMessage(run)
  }

  forget(runId: string): void {
    this.#own.delete(runId)
    this.#shown = ""
    this.#store(this.#stored().filter((run) => run.id !== runId))
  }

  newerThan(runId: string): string | undefined {
    const tip = new Lineage(this.#known().values()).tipOf(runId)
    return tip === runId ? undefined : tip
  }

  branchesOf({ runId, runs }: Parameters<Tabs["branchesOf"]>[0]): Branches {
    const shown = JSON.stringify([runId, runs.map((run) => [run.runId, run.at])])
    if (shown !== this.#shown) this.#branches = this.#find(runId, runs)
    this.#shown = shown
    return this.#branches
  }

  #find(shown: string | undefined, runs: readonly ConversationRun[]): Branches {
    if (!shown) return {}
    const known = this.#known()
    for (const { runId, from, at } of runs) {
      // Whether a run goes on at the end of the one before is known where it was started; otherwise it is assumed.
      known.set(runId, { from: from?.runId, ...known.get(runId), id: runId, at })
    }
    return new Lineage(known.values()).branchesOf(shown)
  }

  #remember(run: KnownRun): void {
    this.#own.set(run.id, run)
    this.#shown = ""
  }

  #known(): Map<string, KnownRun> {
    return new Map([...this.#stored(), ...this.#own.values()].map((run) => [run.id, run]))
  }

  #stored(): KnownRun[] {
    try {
      const stored: unknown = this.#isShared && JSON.parse(localStorage.getItem(NAME) ?? "[]")
      return Array.isArray(stored) ? stored.filter((run) => typeof run?.id === "string") : []
    } catch {
      return [] // no storage, or not ours
    }
  }

  #store(runs: readonly KnownRun[]): void {
    try {
      if (this.#isShared) localStorage.setItem(NAME, JSON.stringify(runs))
    } catch {
      // no storage, or it is full: the tabs that are open know it all the same
    }
  }
}
