/**
 * The messages that were sent into a run and wait to be seen by its model. The server has the list with the run, and no
 * event says that one came to it: so it is taken from responses, and what the log has seen since is taken off. Pure.
 */
import type { AgentEvent, QueuedMessage, Run } from "./types"

export class Queue {
  /** In the order in which they were sent. */
  waiting: readonly QueuedMessage[] = []
  /** Those that no model call had seen when the run ended. */
  unsent: readonly QueuedMessage[] = []
  /** The seq that `waiting` was taken at. */
  #seq = 0
  /** User messages of the log: seq and content. */
  #seen: (readonly [seq: number, content: string])[] = []

  /** Takes the list of a response. */
  take({ queued, lastSeq }: Pick<Run, "queued" | "lastSeq">): void {
    if (!queued || lastSeq < this.#seq) return
    this.#seq = lastSeq
    this.waiting = queued
    for (const [seq, content] of this.#seen) if (seq > lastSeq) this.#remove(content)
  }

  apply(event: AgentEvent): void {
    if (event.type === "stream_reset") this.take(event.run)
    else if (event.type === "agent_end") {
      this.waiting = []
      this.unsent = event.unsent ?? []
    } else if (event.type === "message_end" && event.message.role === "user") {
      const content = JSON.stringify(event.message.content)
      this.#seen.push([event.seq, content])
      if (event.seq > this.#seq) this.#remove(content)
    }
  }

  #remove(content: string): void {
    const at = this.waiting.findIndex(({ message }) => JSON.stringify(message) === content)
    if (at >= 0) this.waiting = this.waiting.toSpliced(at, 1)
  }
}
