/**
 * The protocol's JSON as types: what is on the wire (wire.ts, which is generated) by the names that this package has
 * for it, and what is the page's alone. Shapes only, no code: how events fold stands in fold.ts.
 */
import type { Content, Event, StreamReset, ToolExecutionResult } from "./wire"

export type {
  AssistantBlock,
  AssistantMessage,
  AssistantMessageEvent,
  AudioBlock,
  ContentBlock,
  DocumentBlock,
  Event as AgentEvent,
  ImageBlock,
  Limits,
  Message,
  PendingItem,
  QueuedMessage,
  Run,
  RunError,
  Status as RunStatus,
  StreamReset,
  TextBlock,
  ThinkingBlock,
  ToolCallBlock,
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
  partialResult?: unknown
  result?: ToolExecutionResult
  isError?: boolean
}
