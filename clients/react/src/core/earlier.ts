/**
 * What the logs of ended runs have beside their messages: executions and answers, for this run and for those that a
 * conversation went through before it.
 */
import type { Client } from "./client"
import { EMPTY, fold, type RunState } from "./fold"
import { follow } from "./follow"
import { conversationRun } from "./session"
import type { ConversationRun, RunOrigin } from "./types"

/** How many runs back a page goes. */
const MOST = 50

/** Reads the log of an ended run. */
export async function logOf(client: Client, runId: string): Promise<RunState> {
  const { signal } = new AbortController()
  let state = EMPTY
  const onEvents = (events: Parameters<typeof fold>[1][]) => {
    state = events.reduce(fold, state)
  }
  await follow(client, runId, { after: 0, signal, onEvents })
  return state
}

/** Returns the runs before one, the latest first, as far as they are kept and the caller may read them. */
export async function* runsBefore(
  client: Client,
  from: RunOrigin | undefined,
): AsyncGenerator<ConversationRun> {
  let origin = from
  for (let count = 0; origin && count < MOST; count++) {
    const run = await client.get(origin.runId)
    origin = run.origin
    yield conversationRun(run.id, origin, await logOf(client, run.id), 0)
  }
}
