/** Sends the answer to a pending item: to whichever run lists it, without a chat around it. */
import { AgentKitError, type Answer, type PendingItem } from "@agentkit/react"
import { useRef, useState } from "react"
import { noteAnswer } from "../frame/answers"
import { client, post } from "../server"

export interface Answering {
  /** The item as the server has it now: with the latest votes, and the time it waits. */
  item: PendingItem
  /** `sent`: the server has accepted the answer. */
  state: "open" | "sending" | "sent"
  error: AgentKitError | undefined
  send: (answer: Answer) => Promise<AgentKitError | undefined>
  extend: (ms: number) => Promise<boolean>
}

/** `runId`: the run that lists the item. */
export function useAnswer(runId: string, given: PendingItem, onAnswered?: () => void): Answering {
  const [answered, setAnswered] = useState<PendingItem>()
  const [state, setState] = useState<Answering["state"]>("open")
  const [error, setError] = useState<AgentKitError>()
  const isSending = useRef(false)
  const { decisionId, toolCallId } = given
  const update = (pending: readonly PendingItem[]) => {
    const item = pending.find((one) => one.decisionId === decisionId)
    if (item) setAnswered(item)
    return item
  }

  const send = async (answer: Answer) => {
    if (isSending.current) return undefined
    isSending.current = true
    setState("sending")
    setError(undefined)
    try {
      const run = await client.answer(runId, { ...answer, decisionId, toolCallId })
      // Where several must decide, the item still waits for the others.
      setState(update(run.pending) ? "open" : "sent")
      noteAnswer()
      onAnswered?.()
      return undefined
    } catch (caught) {
      const failure = toError(caught)
      setState("open")
      setError(failure)
      return failure
    } finally {
      isSending.current = false
    }
  }
  const extend = async (ms: number) => {
    setError(undefined)
    try {
      const run = await post(`/runs/${encodeURIComponent(runId)}/extend`, { decisionId, by: ms / 1000 })
      return !!update(run.pending)
    } catch (caught) {
      setError(toError(caught))
      return false
    }
  }
  return { item: latest(given, answered), state, error, send, extend }
}

/** What a response has said of an item may be newer than what the run's events have, and older. */
function latest(given: PendingItem, answered: PendingItem | undefined): PendingItem {
  if (!answered) return given
  const isNewer = (answered.votes?.length ?? 0) >= (given.votes?.length ?? 0)
  const expiresAt = Math.max(given.expiresAt ?? 0, answered.expiresAt ?? 0)
  return { ...(isNewer ? answered : given), ...(expiresAt && { expiresAt }) }
}

function toError(caught: unknown): AgentKitError {
  return caught instanceof AgentKitError
    ? caught
    : new AgentKitError("client_error", String(caught), { cause: caught })
}
