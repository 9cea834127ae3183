/**
 * A chat's pending items: which of them are executed here, which a person is asked for, and the answers on their way.
 * Each is executed and announced once, and has one answer on its way at a time.
 */
import type { Answer, Client } from "./client"
import { type AgentKitError, textOf } from "./errors"
import type { ChatOptions, ClientTool } from "./options"
import type { Session } from "./session"
import { toolOf } from "./snapshot"
import type { PendingItem } from "./types"

/** Error codes that mean that an item is not pending any more. */
const RESOLVED_CODES = ["decision_conflict", "decision_expired", "decision_not_found", "run_not_paused"]

/** What the chat does for its answers. */
export interface AnswersHost {
  readonly client: Client
  options(): ChatOptions
  emit(): void
  /** Calls `onDecisionPending`. */
  announce(session: Session, item: PendingItem): void
  /** Runs a request; what fails is the chat's error. */
  attempt(session: Session, request: () => Promise<unknown>): Promise<boolean>
}

export class Answers {
  readonly #host: AnswersHost
  /** Decision ids that `onDecisionPending` was called for … */
  readonly #announced = new Set<string>()
  /** … or that a client tool executes. */
  readonly #executed = new Set<string>()
  readonly #sending = new Set<string>()

  constructor(host: AnswersHost) {
    this.#host = host
  }

  /** Executes new pending items by client tools, and announces the others. */
  dispatch(session: Session): void {
    for (const item of session.pending) {
      const { decisionId } = item
      const tool = toolOf(item, this.#host.options())
      const seen = tool ? this.#executed : this.#announced
      if (session.stopped || seen.has(decisionId)) continue
      seen.add(decisionId)
      this.#announced.add(decisionId) // executed here: no person is to answer it later
      if (tool) void this.#execute(session, item, tool)
      else this.#host.announce(session, item)
    }
  }

  /** The run is joined anew: what was executed may be lost. */
  forget(): void {
    this.#executed.clear()
  }

  /** `lifetime`: for a client tool's result, which is sent until that aborts; to be late with it is no error. */
  async send(session: Session, item: PendingItem, answer: Answer, lifetime?: AbortSignal): Promise<boolean> {
    const { decisionId, toolCallId } = item
    const runId = session.runId
    if (!runId || this.#sending.has(decisionId)) return false // a second click
    this.#sending.add(decisionId)
    const isAccepted = await this.#host.attempt(session, async () => {
      try {
        const run = await this.#host.client.answer(runId, { ...answer, decisionId, toolCallId }, lifetime)
        // Where several must decide, the item still waits for the others.
        const isOpen = run?.pending?.some((one) => one.decisionId === decisionId)
        if (!isOpen) session.answered.add(decisionId)
      } catch (error) {
        if (lifetime?.aborted) return
        const { code } = error as AgentKitError
        // Where several must decide, a conflict is with those who have, and others may still agree with them.
        const isOpen = (item.approvals ?? 1) > 1 && code === "decision_conflict"
        if (!RESOLVED_CODES.includes(code) || isOpen) throw error
        session.answered.add(decisionId) // it was answered elsewhere, or is not needed any more
        if (!lifetime) throw error
      }
    })
    this.#sending.delete(decisionId)
    return isAccepted
  }

  async #execute(session: Session, item: PendingItem, tool: ClientTool): Promise<void> {
    const { toolCallId, input } = item
    const context = { runId: item.runId ?? session.runId ?? "", toolCallId, signal: session.lifetime.signal }
    let result: unknown
    this.#host.emit() // it may have been shown to a person until now
    try {
      const value = (await tool(input, context)) ?? null
      result = JSON.parse(JSON.stringify(value)) // throws where the value has no JSON form
    } catch (error) {
      result = { content: textOf(error), isError: true }
    }
    const { signal } = context
    if (!signal.aborted) await this.send(session, item, { result }, signal)
  }
}
