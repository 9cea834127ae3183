/**
 * Which run was started from which, as far as this browser knows, and what follows: where a conversation has gone on
 * to, and where it has branches. Pure.
 */

import type { Branches } from "../core/options"

/** A run of a conversation, as tabs know it of each other. */
export interface KnownRun {
  id: string
  /** The run that it was started from, … */
  from?: string | undefined
  /** … and the last turn that it begins with, where that was named; otherwise it goes on at its end. */
  turn?: number | undefined
  /** The number of messages that it begins with. */
  at: number
  /** For a run that is started from none: the one whose place it takes, since the first message was edited. */
  instead?: string | undefined
}

export class Lineage {
  readonly #runs: ReadonlyMap<string, KnownRun>

  constructor(runs: Iterable<KnownRun>) {
    this.#runs = new Map(Array.from(runs, (run) => [run.id, run]))
  }

  /** Returns the newest run to which a conversation has gone on from this one; the run itself where there is none. */
  tipOf(runId: string): string {
    const next = [...this.#runs.values()]
      .filter((run) => run.from === runId && run.turn === undefined)
      .reduce((newest, run) => (run.id > newest ? run.id : newest), "")
    return next ? this.tipOf(next) : runId
  }

  branchesOf(runId: string): Branches {
    const shown = this.#pathOf(runId)
    const found = new Map<number, Map<string, string>>()
    for (const { id } of this.#runs.values()) {
      const path = this.#pathOf(id)
      const common = path.findIndex((run, depth) => run.id !== shown[depth]?.id)
      const depth = common < 0 ? path.length : common
      const [mine, other] = [shown[depth], path[depth]]
      const at = Math.min(mine?.at ?? Number.POSITIVE_INFINITY, other?.at ?? Number.POSITIVE_INFINITY)
      // Without a common run they are two conversations. What only goes on at the other's end is no branch of it.
      if (!depth || !Number.isFinite(at)) continue
      if ((!other && mine?.turn === undefined) || (!mine && other?.turn === undefined)) continue
      const branchOf = (run: KnownRun | undefined) => (run?.at === at ? run.id : "")
      const branches = found.get(at) ?? new Map([[branchOf(mine), runId]])
      found.set(at, branches)
      const branch = branchOf(other)
      if (branch === branchOf(mine)) continue
      const newest = branches.get(branch)
      if (!newest || id > newest) branches.set(branch, id)
    }
    return Object.fromEntries(Array.from(found, ([at, branches]) => [at, [...branches.values()].sort()]))
  }

  /** The runs from a conversation's first to this one, behind an entry that stands for the conversation. */
  #pathOf(runId: string): KnownRun[] {
    const run = this.#runs.get(runId)
    if (!run)
      return [
        { id: `conversation of ${runId}`, at: 0 },
        { id: runId, at: 0 },
      ]
    const before = run.from ?? run.instead
    const path = before ? this.#pathOf(before) : [{ id: `conversation of ${runId}`, at: 0 }]
    return run.from ? [...path, run] : [...path.slice(0, 1), run]
  }
}
