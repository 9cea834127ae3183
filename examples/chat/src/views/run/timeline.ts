/** A run's events as turns and their steps: what took how long, what was tried again, who was waited for, what it cost. */
import type { AgentEvent, JsonObject, Message, ToolResultMessage, Usage } from "@agentkit/react"
import { verdictOf } from "../../decision/yesNo"
import { textOf } from "../../text"

/** A wait for a person, or for a client. */
export interface Wait {
  since: number
  kind: string
  reason: string | undefined
  until?: number
  /** How it ended, in words. */
  outcome?: string
}

/** A model call, or a tool call, with all its attempts. Times are milliseconds since the Unix epoch. */
export interface Step {
  kind: "model" | "tool"
  name: string
  toolCallId?: string
  startedAt?: number
  endedAt?: number
  attempts: number
  /** How often its message has begun. */
  starts?: number
  usage?: Usage | undefined
  error?: string | undefined
  input?: JsonObject
  result?: string
  /** The run of the sub-agent that answered the call. */
  childRunId?: string
  waits: Wait[]
  /** What went wrong on the way, in order. */
  notes: string[]
}

export interface Turn {
  turn: number
  startedAt?: number
  endedAt?: number
  steps: Step[]
  /** Messages that people sent while the run went on. */
  messages: string[]
}

const KINDS: Record<string, string> = {
  tool_decision_pending: "a decision",
  tool_client_execute_pending: "a client’s result",
  tool_in_doubt: "a verdict: a worker died while it was executing this",
}

export class Timeline {
  readonly turns: Turn[] = []
  /** The last seq that was taken. */
  seq = 0
  /** The log of the first events is gone: of what was before, the messages are all there is. */
  isPartial = false

  add(event: AgentEvent): void {
    if (event.type === "stream_reset") {
      this.#reset(event.run.messages, event.run.lastSeq)
      return
    }
    this.seq = event.seq
    const { timestamp } = event
    switch (event.type) {
      case "turn_start":
        this.turns.push({ turn: event.turn, startedAt: timestamp, steps: [], messages: [] })
        break
      case "turn_end":
        this.#turn().endedAt = timestamp
        break
      case "message_start":
        if (event.message.role === "assistant") {
          const step = this.#model(timestamp)
          step.starts = (step.starts ?? 0) + 1
          step.attempts = Math.max(step.attempts, step.starts)
        }
        break
      case "message_discard":
        this.#model(timestamp).notes.push(
          `Attempt ${this.#model(timestamp).attempts} was discarded: ${event.reason}`,
        )
        break
      case "model_retry": {
        const step = this.#model(timestamp)
        step.attempts = Math.max(step.attempts, event.attempt) // one that was refused begins no message of its own
        step.notes.push(
          `Failed: ${event.error}. Attempt ${event.attempt} of ${event.maxAttempts} after ${event.delayMs} ms`,
        )
        break
      }
      case "message_end":
        this.#message(event.message, timestamp)
        break
      case "tool_execution_start": {
        const step = this.#call(event.toolCallId, event.toolName)
        if (step.attempts) step.notes.push(`Attempt ${step.attempts} was not finished; it is executed again`)
        step.startedAt ??= timestamp
        step.attempts += 1
        step.input = event.args
        break
      }
      case "tool_execution_end":
        this.#result(this.#call(event.toolCallId, event.toolName), event.result, event.isError, timestamp)
        break
      case "tool_decision_pending":
      case "tool_client_execute_pending":
      case "tool_in_doubt": {
        const step = this.#call(event.toolCallId, event.toolName)
        step.input = event.input
        step.waits.push({ since: timestamp, kind: KINDS[event.type] ?? "", reason: event.reason })
        break
      }
      case "tool_decision_vote":
        this.#step(event.toolCallId)?.notes.push(
          `${event.decidedBy} has decided: ${event.votes} of ${event.approvals} who must agree`,
        )
        break
      case "tool_decision_resolved": {
        const wait = this.#step(event.toolCallId)?.waits.findLast((one) => one.until === undefined)
        if (!wait) break
        wait.until = timestamp
        const who = event.decidedBy ? ` by ${event.decidedBy}` : ""
        const outcome = event.outcome === "decided" ? verdictOf(event.decision) : event.outcome
        wait.outcome = `${outcome}${who}${event.reason ? `: ${event.reason}` : ""}`
        break
      }
    }
  }

  #reset(messages: readonly Message[], seq: number): void {
    this.turns.length = 0
    this.isPartial = true
    this.seq = seq
    for (const message of messages) {
      if (message.role === "assistant") {
        this.turns.push({ turn: this.turns.length + 1, steps: [], messages: [] })
        for (const block of message.content) {
          if (block.type === "toolCall") this.#call(block.id, block.name).input = block.arguments
        }
      }
      if (this.turns.length) this.#message(message, undefined)
    }
  }

  #message(message: Message, timestamp: number | undefined): void {
    if (message.role === "user") {
      if (this.turns.length) this.#turn().messages.push(textOf(message.content))
    } else if (message.role === "assistant") {
      const step = this.#model(timestamp)
      if (timestamp) step.endedAt = timestamp
      step.name = message.model
      step.usage = message.usage
      step.error = message.errorMessage
    } else {
      const step = this.#call(message.toolCallId, message.toolName)
      this.#result(step, message, message.isError, undefined)
    }
  }

  #result(
    step: Step,
    { content, details }: Pick<ToolResultMessage, "content" | "details">,
    isError: boolean,
    at: number | undefined,
  ): void {
    if (at) step.endedAt = at
    const text = textOf(content)
    step.result = text
    step.error = isError ? text : undefined
    const child = details as { runId?: unknown; usage?: Usage } | null | undefined
    if (typeof child?.runId === "string") {
      step.childRunId = child.runId
      step.usage = child.usage
    }
  }

  #turn(): Turn {
    const last = this.turns.at(-1)
    if (last) return last
    this.turns.push({ turn: 1, steps: [], messages: [] })
    return this.#turn()
  }

  #model(timestamp: number | undefined): Step {
    const { steps } = this.#turn()
    const known = steps.find(({ kind }) => kind === "model")
    if (known) return known
    const step: Step = { kind: "model", name: "", attempts: 0, waits: [], notes: [] }
    if (timestamp) step.startedAt = timestamp
    steps.unshift(step)
    return step
  }

  #step(toolCallId: string): Step | undefined {
    for (const { steps } of [...this.turns].reverse()) {
      const step = steps.find((one) => one.toolCallId === toolCallId)
      if (step) return step
    }
    return undefined
  }

  #call(toolCallId: string, name: string): Step {
    const known = this.#step(toolCallId)
    if (known) return known
    const step: Step = { kind: "tool", name, toolCallId, attempts: 0, waits: [], notes: [] }
    this.#turn().steps.push(step)
    return step
  }
}
