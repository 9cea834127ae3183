/**
 * A run's log, folded into what a page shows. Pure: it must not know where events come from.
 *
 * The rules that this file alone knows:
 *
 * 1. The folding law: `agent_start.messages` and the message of every `message_end` are the run's messages.
 * 2. The open assistant message grows by deltas, and is dropped by `message_discard`.
 * 3. `stream_reset` puts the snapshot in the place of all that was folded before, but for what a snapshot does not have:
 *    executions and answers.
 * 4. An event that was folded already changes nothing. One of an unknown type moves the seq and nothing else.
 */
import type {
  AgentEvent,
  AssistantBlock,
  AssistantMessage,
  AssistantMessageEvent,
  JsonObject,
  Message,
  PendingItem,
  ResolvedDecision,
  Run,
  RunError,
  RunStatus,
  StoredEvent,
  ToolExecution,
  Usage,
} from "./types"
import type { ToolDecisionVote } from "./wire"

/** A run at one seq. Never changed, always replaced: what is the same object has not changed. */
export interface RunState {
  /** The last event that is folded in; 0 before the first. */
  readonly seq: number
  readonly runId?: string | undefined
  readonly agent?: string | undefined
  /** How many messages the run began with; undefined where its log does not say so. */
  readonly historyLength?: number | undefined
  /** Undefined before the first event. */
  readonly status?: RunStatus | undefined
  /** Complete messages. */
  readonly messages: readonly Message[]
  /** The assistant message that streams now, so far. */
  readonly open?: AssistantMessage | undefined
  readonly pending: readonly PendingItem[]
  /** By tool call id. */
  readonly tools: Readonly<Record<string, ToolExecution>>
  /** Items that were answered, in the order of the answers. */
  readonly decisions: readonly ResolvedDecision[]
  readonly turn: number
  /** That of the messages. */
  readonly usage: Usage
  /** The model call that is about to be repeated. */
  readonly retry?: Retry | undefined
  readonly error?: RunError | undefined
}

/** A model call failed, and is repeated after `delayMs`. */
export interface Retry {
  attempt: number
  maxAttempts: number
  delayMs: number
  error: string
}

const COST = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, total: 0 }
const NO_USAGE: Usage = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0, totalTokens: 0, cost: COST }

export const EMPTY: RunState = {
  seq: 0,
  messages: [],
  pending: [],
  tools: {},
  decisions: [],
  turn: 0,
  usage: NO_USAGE,
}

export function isTerminal(status: RunStatus | undefined): boolean {
  return ["completed", "failed", "aborted"].includes(status as RunStatus)
}

/** Makes the state of a run from GET /runs/{id}. That has no open message: only the log has it. */
export function stateOf(run: Run): RunState {
  const { id, agent, lastSeq, status, messages, pending, turn, error } = run
  return { ...EMPTY, ...conversation(messages), seq: lastSeq, runId: id, agent, status, pending, turn, error }
}

export function fold(state: RunState, event: AgentEvent): RunState {
  if (event.type === "stream_reset") {
    const { tools, decisions, historyLength } = state
    return { ...stateOf(event.run), tools, decisions, historyLength }
  }
  return event.seq <= state.seq ? state : { ...state, ...change(state, event), seq: event.seq }
}

type Changed = Partial<RunState>

function change(state: RunState, event: StoredEvent): Changed {
  switch (event.type) {
    case "agent_start":
      return {
        runId: event.runId,
        agent: event.agent,
        status: "queued",
        historyLength: event.messages.length,
        ...conversation(event.messages),
      }
    case "agent_pause":
      return { status: "paused", pending: event.pending }
    case "agent_resume": // the next pause lists a sub-agent's items again
      return { status: "running", pending: state.pending.filter((item) => !item.runId) }
    case "agent_end":
      return { status: event.status, pending: [], open: undefined, retry: undefined, error: event.error }
    case "turn_start":
      return { status: "running", turn: event.turn }
    case "turn_end":
      return { pending: [] }
    case "message_start":
      return event.message.role === "assistant" ? { open: event.message, retry: undefined } : {}
    case "message_update":
      return state.open ? { open: withUpdate(state.open, event.assistantMessageEvent) } : {}
    case "message_end":
      return {
        messages: [...state.messages, event.message],
        usage: addUsage(state.usage, event.message),
        open: undefined,
      }
    case "message_discard":
      return { open: undefined }
    case "model_retry":
      return { retry: event }
    case "tool_execution_start":
      return withTool(state, event, { status: "running" })
    case "tool_execution_update":
      return withTool(state, event, { status: "running", partialResult: event.partialResult })
    case "tool_execution_end":
      return withTool(state, event, { status: "done", result: event.result, isError: event.isError })
    case "tool_decision_pending":
      return withPending(state, event, "decision")
    case "tool_in_doubt":
      return withPending(state, event, "in_doubt")
    case "tool_client_execute_pending":
      return withPending(state, event, "client_execute")
    case "tool_decision_vote":
      return {
        pending: state.pending.map((item) =>
          item.decisionId === event.decisionId ? withVote(item, event) : item,
        ),
      }
    case "tool_decision_resolved": {
      const pending = state.pending.filter((item) => item.decisionId !== event.decisionId)
      const decisions = [...state.decisions, resolved(state, event)]
      const isAnswered = state.status === "paused" && !pending.length
      return { pending, decisions, ...(isAnswered && { status: "queued" }) }
    }
    default:
      return {}
  }
}

type ExecutionEvent = Extract<StoredEvent, { type: `tool_execution_${string}` }>
type Execution = Omit<ToolExecution, "toolName" | "input" | "edited">

function withTool(state: RunState, event: ExecutionEvent, execution: Execution): Changed {
  const { toolCallId, toolName } = event
  const { tools, decisions } = state
  const before = tools[toolCallId]
  const edit = decisions.findLast((one) => one.toolCallId === toolCallId && one.editedInput)
  const tool: ToolExecution = {
    toolName,
    input: "args" in event ? event.args : (before?.input ?? {}),
    ...(edit && { edited: { original: edit.input, by: edit.decidedBy } }),
    ...execution,
  }
  return { tools: { ...tools, [toolCallId]: tool } }
}

/** An answer beside what was asked. A remembered one answers a call for which nothing was pending. */
function resolved(state: RunState, event: Extract<StoredEvent, { type: "tool_decision_resolved" }>) {
  const { type: _, seq: __, timestamp: decidedAt, input: editedInput, ...answer } = event
  const item = state.pending.find((one) => one.decisionId === event.decisionId)
  const calls = state.messages.flatMap((message) => (message.role === "assistant" ? message.content : []))
  const call = calls.findLast((block) => block.type === "toolCall" && block.id === event.toolCallId)
  const { name = "", arguments: input = {} } = (call ?? {}) as { name?: string; arguments?: JsonObject }
  const { toolName, kind, input: shown } = item ?? { toolName: name, kind: "decision" as const, input }
  return { toolName, kind, input: shown, ...answer, ...(editedInput && { editedInput }), decidedAt }
}

type PendingEvent = Extract<StoredEvent, { decisionId: string; input: unknown }>

function withPending(state: RunState, event: PendingEvent, kind: PendingItem["kind"]): Changed {
  const { type: _, seq: __, runId: ___, timestamp: createdAt, ...asking } = event
  const others = state.pending.filter((item) => item.decisionId !== event.decisionId)
  return { pending: [...others, { schema: {}, ...asking, kind, createdAt }] }
}

function withVote(item: PendingItem, event: ToolDecisionVote): PendingItem {
  const { decidedBy, timestamp: decidedAt, decision, input, remember } = event
  const proposal = { decision, ...(input && { input }), ...(remember && { remember }) }
  return { ...item, votes: [...(item.votes ?? []), { decidedBy, decidedAt }], proposal }
}

function withUpdate(message: AssistantMessage, update: AssistantMessageEvent): AssistantMessage {
  const content = [...message.content]
  const at = update.contentIndex
  const block = content[at]
  if (update.type === "text_start") content[at] = { type: "text", text: "" }
  else if (update.type === "thinking_start") content[at] = { type: "thinking", thinking: "" }
  else if ("toolCall" in update) content[at] = update.toolCall
  else if ("delta" in update && block) content[at] = withDelta(block, update.delta)
  else return message
  return { ...message, content }
}

function withDelta(block: AssistantBlock, delta: string): AssistantBlock {
  if (block.type === "text") return { ...block, text: block.text + delta }
  if (block.type === "thinking") return { ...block, thinking: block.thinking + delta }
  return { ...block, rawArguments: (block.rawArguments ?? "") + delta }
}

// -- derived from messages

/** All messages, the open one at the end. */
export function messagesOf(state: RunState): readonly Message[] {
  return state.open ? [...state.messages, state.open] : state.messages
}

/** Makes the state of a run that is aborted here: with as much of the open message as there is. */
export function abortedState(state: RunState): RunState {
  const { open, retry: _, ...rest } = state
  const kept: Message[] = open?.content.length ? [{ ...open, stopReason: "aborted" }] : []
  return { ...rest, status: "aborted", messages: [...state.messages, ...kept], pending: [] }
}

/**
 * What a conversation has used: the sum over its assistant messages, and over the runs of sub-agents, whose
 * usage is in the result of the call that started them.
 */
export function usageOf(messages: readonly Message[]): Usage {
  return messages.reduce(addUsage, NO_USAGE)
}

/** Makes the part of a state that comes from an earlier conversation. */
export function conversation(messages: readonly Message[]): Pick<RunState, "messages" | "usage"> {
  return { messages, usage: usageOf(messages) }
}

function addUsage(sum: Usage, message: Message): Usage {
  if (message.role === "assistant") return addCounts(sum, message.usage)
  const { details } = message as { details?: { runId?: string; usage?: Usage } }
  return details?.runId ? addCounts(sum, details.usage) : sum
}

/** `more` may lack counts, in a message that the page made. */
function addCounts<T extends object>(sum: T, more: Partial<T> | undefined): T {
  const entries = Object.entries(sum).map(([key, value]) => {
    const other = more?.[key as keyof T]
    return [key, typeof value === "number" ? value + Number(other ?? 0) : addCounts(value, other as object)]
  })
  return Object.fromEntries(entries)
}
