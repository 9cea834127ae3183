/** What a chat takes and what it shows: the types that applications see. */
import type { ConnectionOptions, StartBody } from "./client"
import type { AgentKitError } from "./errors"
import type { RunState } from "./fold"
import type { AgentEvent, JsonObject, Message, PendingItem, RunStatus, ToolExecution, Usage } from "./types"

/**
 * - `ready`: nothing is going on; `send` starts a run.
 * - `submitted`: the run is accepted, or about to be, and no worker has claimed it yet.
 * - `streaming`: a worker executes it.
 * - `paused`: the run waits for an answer.
 * - `error`: the run failed, or the server refused to start it or to show it.
 */
export type ChatStatus = "ready" | "submitted" | "streaming" | "paused" | "error"

export interface ClientToolContext {
  runId: string
  toolCallId: string
  /** Aborts when the chat is aborted, or the run ends without the result. */
  signal: AbortSignal
}

/**
 * Executes a tool of `runs="client"` in this page. What it returns or resolves to is the result: any JSON, content
 * blocks, or `{content, isError?, details?}`. What it throws becomes an error result, as does a value without a JSON form.
 */
// biome-ignore lint/suspicious/noExplicitAny: the tool's own parameters, which only its author knows
export type ClientTool = (input: any, context: ClientToolContext) => unknown

export interface Finish {
  runId: string | undefined
  status: RunStatus
  messages: readonly Message[]
  usage: Usage
  error: AgentKitError | undefined
}

export interface ChatOptions extends ConnectionOptions {
  agent: string
  /** Sent along with every new run. */
  body?: StartBody | (() => StartBody)
  /** Joins this run again: running, paused or ended. Read once, when the chat is made. */
  runId?: string | undefined
  /** The conversation before the first run of this chat. Read once, when the chat is made. */
  initialMessages?: readonly Message[]
  /** By name, for tools of `runs="client"`. */
  clientTools?: Readonly<Record<string, ClientTool>>
  /** Whether a run is followed past a pause (true). Otherwise `rejoin()` shows the effect of an answer. */
  followDecisions?: boolean

  // Callbacks report what is new since the chat watches, each thing once; a replayed log is not reported.
  onMessage?: (message: Message) => void
  onEvent?: (event: AgentEvent) => void
  onFinish?: (finish: Finish) => void
  /** A person is to answer. */
  onDecisionPending?: (item: PendingItem) => void
  onError?: (error: AgentKitError) => void
}

/** What a page shows. A new object whenever something changed; parts that did not change stay the same object. */
export interface ChatSnapshot {
  /** The whole conversation; the message that streams now is the last. Messages only ever come at the end. */
  readonly messages: readonly Message[]
  readonly status: ChatStatus
  /** An answer is on its way: `submitted` or `streaming`. */
  readonly isStreaming: boolean
  /** The server cannot be reached at the moment; the chat goes on by itself as soon as it can. */
  readonly isReconnecting: boolean
  /** Everything that the run waits for, of all kinds. */
  readonly pendingDecisions: readonly PendingItem[]
  /** The first of them that a person is to answer. */
  readonly pendingDecision: PendingItem | undefined
  /** The last error. With `errors`, an answer does not satisfy its schema, and the run still waits for one. */
  readonly error: AgentKitError | undefined
  /** Keep it, for instance in the URL, to join again after a reload. */
  readonly runId: string | undefined
  /** What the conversation has used, history included. */
  readonly usage: Usage
  /** The state of tool executions, by tool call id. */
  readonly tools: Readonly<Record<string, ToolExecution>>
  /** The model call failed and is about to be repeated. */
  readonly retry: RunState["retry"]
}

/** Which item is answered, and arguments that replace the tool's. */
export interface AnswerOptions {
  /** By default `pendingDecision`. */
  toolCallId?: string
  input?: JsonObject
}
