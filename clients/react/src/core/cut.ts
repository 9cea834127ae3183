/** Where a new branch begins: the run, and the turn, whose end is a given place among the messages. Pure. */
import type { Beginning, Session } from "./session"
import type { ConversationRun, Message } from "./types"

/** Returns a beginning with the messages before `index`; undefined where no run is known that ends there. */
export function beginningBefore(
  { runId, runs, beginning }: Pick<Session, "runId" | "runs" | "beginning">,
  messages: readonly Message[],
  index: number,
): Beginning | undefined {
  if (!runId && index === beginning.messages.length) return beginning // the message was refused
  const head = { messages: messages.slice(0, index), earlier: runs.filter((run) => run.at < index) }
  const run = runs.findLast(({ at }) => at <= index)
  const first = runs[0]
  if (!first) return runId ? undefined : head
  if (!run) return first.from ? undefined : { ...head, instead: first.runId }
  if (run.at === index) return { ...head, from: run.from, instead: run.runId }
  const turn = head.messages.slice(run.at).filter(({ role }) => role === "assistant").length
  return turn ? { ...head, from: { runId: run.runId, turn } } : undefined
}

/** Returns a beginning with everything up to the end of a turn of the last run. */
export function beginningAfter(
  runs: readonly ConversationRun[],
  messages: readonly Message[],
  turn: number,
): Beginning | undefined {
  const run = runs.at(-1)
  if (!run) return undefined
  let turns = 0
  const end = messages.findIndex(({ role }, at) => {
    turns += +(at >= run.at && role === "assistant")
    return turns > turn || (turns === turn && role === "user" && at >= run.at)
  })
  return {
    from: { runId: run.runId, turn },
    messages: end < 0 ? messages : messages.slice(0, end),
    earlier: runs,
  }
}
