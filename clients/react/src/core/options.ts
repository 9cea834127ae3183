/** What a chat takes and what it shows: the types that applications see. */
import type { Client, ConnectionOptions, StartBody } from "./client"
import type { AgentKitError } from "./errors"
import type { RunState } from "./fold"
import type { Following } from "./follow"
import type { Beginning } from "./session"
import type {
  AgentEvent,
  ConversationRun,
  JsonObject,
  Message,
  PendingItem,
  QueuedMessage,
  ResolvedDecision,
  RunStatus,
  ToolExecution,
  Usage,
  UserContent,
} from "./types"

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
  /**
   * Joins this run again: running, paused or ended. Read once, when the chat is made. A function is called in the
   * browser alone, when the chat is first subscribed to: there it may read the URL.
   */
  runId?: string | (() => string | null | undefined) | undefined
  /** The conversation before the first run of this chat. Read once, when the chat is made. */
  initialMessages?: readonly Message[]
  /** By name, for tools of `runs="client"`. */
  clientTools?: Readonly<Record<string, ClientTool>>
  /** Whether a run is followed past a pause (true). Otherwise `rejoin()` shows the effect of an answer. */
  followDecisions?: boolean
  /**
   * What this tab shares with the others of the browser: `browserTabs()` of `@agentkit/react/tabs`, which `useChat`
   * takes by itself. Without it a chat has no `branches` and a stream of its own. Read once.
   */
  tabs?: Tabs | undefined

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
  /** The browser says that it has no network. */
  readonly isOffline: boolean
  /** Everything that the run waits for, of all kinds. */
  readonly pendingDecisions: readonly PendingItem[]
  /** The first of them that a person is to answer. */
  readonly pendingDecision: PendingItem | undefined
  /** The last error. With `errors`, an answer does not satisfy its schema, and the run still waits for one. */
  readonly error: AgentKitError | undefined
  /** The latest run that the server has accepted. Keep it, for instance in the URL, to join again after a reload. */
  readonly runId: string | undefined
  /** The agent of that run; before there is one, the option. */
  readonly agent: string
  /** The content of the message that the server refused: `reload` sends it again, `send` puts another in its place. */
  readonly refused: UserContent | undefined
  /** What the conversation has used, history included. */
  readonly usage: Usage
  /** The state of tool executions of the latest run, by tool call id. */
  readonly tools: Readonly<Record<string, ToolExecution>>
  /** Items of the latest run that were answered: what, by whom and when. */
  readonly decisions: readonly ResolvedDecision[]
  /** Messages that were sent into the run and wait, … */
  readonly queued: readonly QueuedMessage[]
  /** … and those that no model call had seen when the run ended. */
  readonly unsent: readonly QueuedMessage[]
  /** The conversation's runs as far as they are known, the latest last, each with its `tools` and `decisions`. */
  readonly runs: readonly ConversationRun[]
  /**
   * The branches that edits, regenerations and forks have made: by the index of the message where they part, the runs
   * that lead to them, oldest first, with `runId` among them. `open` goes to one.
   */
  readonly branches: Branches
  /** The model call failed and is about to be repeated. */
  readonly retry: RunState["retry"]
}

/** By the index of the message at which they part: the newest run of each branch, oldest first, the shown one among them. */
export type Branches = Readonly<Record<number, readonly string[]>>

/** What a chat shares with others: in the same browser as a rule. */
export interface Tabs {
  /** Calls `onRun` whenever another tab has started a run. Returns the function that ends it. */
  join(onRun: () => void): () => void
  /** This tab has started a run. */
  add(runId: string, beginning: Beginning): void
  /** A run is no longer there. */
  forget(runId: string): void
  /** Returns the newest run to which a conversation has gone on from this one, if it has. */
  newerThan(runId: string): string | undefined
  /** Returns the branches beside a run, where `runs` are its conversation's; the same object while nothing has changed. */
  branchesOf(shown: { runId: string | undefined; runs: readonly ConversationRun[] }): Branches
  /** Does what `follow` does. */
  readonly follow: (client: Client, runId: string, following: Following) => Promise<void>
}

/** Which item is answered, and arguments that replace the tool's. */
export interface AnswerOptions {
  /** By default `pendingDecision`. */
  toolCallId?: string
  input?: JsonObject
  /** Later calls of the tool in this run are answered alike, where the tool allows it. */
  remember?: boolean
}
