/**
 * The protocol's JSON as types: what is on the wire (wire.ts, which is generated) by the names that this package has
 * for it, and what is the page's alone. Shapes only, no code: how events fold stands in fold.ts.
 */
import type {
  Content,
  Event,
  PendingItem,
  StreamReset,
  ToolDecisionResolved,
  ToolExecutionResult,
} from "./wire"

export type {
  AnsweredItem,
  AnswerPage,
  AssistantBlock,
  AssistantMessage,
  AssistantMessageEvent,
  AudioBlock,
  ContentBlock,
  DecisionPage,
  DocumentBlock,
  Event as AgentEvent,
  ImageBlock,
  InboxItem,
  Limits,
  Message,
  PendingCount,
  PendingItem,
  QueuedMessage,
  Readiness,
  Run,
  RunError,
  RunPage,
  RunSummary,
  Status as RunStatus,
  StreamReset,
  TextBlock,
  ThinkingBlock,
  ToolCallBlock,
  ToolDefinition,
  ToolResultMessage,
  Usage,
  UserMessage,
} from "./wire"

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }
export type JsonObject = Record<string, unknown>
export type UserContent = Content

/** An event of a run's log. */
export type StoredEvent = Exclude<Event, StreamReset>

/** How an execution of a tool stands: what the page shows at its call. */
export interface ToolExecution {
  toolName: string
  status: "running" | "done"
  /** The arguments with which it is executed. */
  input: JsonObject
  /** Somebody changed the model's arguments: what these were, and by whom, where somebody was named. */
  edited?: { original: JsonObject; by?: string | undefined }
  partialResult?: unknown
  result?: ToolExecutionResult
  isError?: boolean
}

/** A pending item that has been answered: what was asked, the answer, by whom and when. */
export interface ResolvedDecision
  extends Pick<PendingItem, "decisionId" | "toolCallId" | "toolName" | "kind" | "input">,
    Omit<ToolDecisionResolved, "type" | "seq" | "timestamp" | "toolCallId" | "decisionId" | "input"> {
  /** The arguments by which `input` was replaced. */
  editedInput?: JsonObject | undefined
  /** Milliseconds since the Unix epoch. */
  decidedAt: number
}

/** One run of a conversation: its messages are those from the index `at`, its input as a rule, to the next run's. */
export interface ConversationRun {
  readonly runId: string
  /** The run that it was started from. */
  readonly from?: RunOrigin | undefined
  readonly at: number
  /** By tool call id. */
  readonly tools: Readonly<Record<string, ToolExecution>>
  readonly decisions: readonly ResolvedDecision[]
}

/** A run, and the last of its turns that another one begins with; without `turn`, its last whole one. */
export interface RunOrigin {
  runId: string
  turn?: number
}
