/**
 * The protocol's JSON as types: messages, events, runs, pending items. Shapes only, no code: what they
 * mean stands in the protocol, and how they fold in fold.ts.
 */

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }
export type JsonObject = Record<string, unknown>

// -- messages

export interface TextBlock {
  type: "text"
  text: string
}

export interface ImageBlock {
  type: "image"
  /** Base64. */
  data: string
  mimeType: string
}

export interface ThinkingBlock {
  type: "thinking"
  thinking: string
  signature?: string
}

export interface ToolCallBlock {
  type: "toolCall"
  id: string
  name: string
  arguments: JsonObject
  /** While the call streams: its arguments so far. Later only where they were no JSON of an object. */
  rawArguments?: string
}

export type UserContent = string | (TextBlock | ImageBlock)[]
export type AssistantBlock = TextBlock | ThinkingBlock | ToolCallBlock

/** Token counts; `cost` in US dollars. */
export interface Usage {
  input: number
  output: number
  cacheRead: number
  cacheWrite: number
  totalTokens: number
  cost: { input: number; output: number; cacheRead: number; cacheWrite: number; total: number }
}

export interface UserMessage {
  role: "user"
  content: UserContent
  /** Milliseconds since the Unix epoch. */
  timestamp?: number
}

export interface AssistantMessage {
  role: "assistant"
  content: AssistantBlock[]
  api: string
  provider: string
  model: string
  usage: Usage
  stopReason: "stop" | "length" | "toolUse" | "error" | "aborted"
  errorMessage?: string
  timestamp: number
}

export interface ToolResultMessage {
  role: "toolResult"
  toolCallId: string
  toolName: string
  content: (TextBlock | ImageBlock)[]
  isError: boolean
  details?: unknown
  timestamp: number
}

export type Message = UserMessage | AssistantMessage | ToolResultMessage

// -- runs

export type RunStatus = "queued" | "running" | "paused" | "completed" | "failed" | "aborted"

export interface RunError {
  code: string
  message: string
}

/** One thing that a run waits for. `schema` is the JSON Schema of the answer; `{}` takes anything. */
export interface PendingItem {
  decisionId: string
  toolCallId: string
  toolName: string
  kind: "decision" | "client_execute" | "in_doubt"
  input: JsonObject
  schema: JsonObject
  createdAt: number
  expiresAt?: number
  /** The sub-agent's run that waits, where it is not this run itself. */
  runId?: string
}

/** The answer of GET /runs/{id}. */
export interface Run {
  id: string
  agent: string
  status: RunStatus
  model: string
  messages: Message[]
  pending: PendingItem[]
  turn: number
  usage: Usage
  error?: RunError
  metadata: JsonObject
  createdAt: number
  updatedAt: number
  endedAt?: number
  lastSeq: number
  schemaVersion: number
  parentRunId?: string
}

export interface Limits {
  maxTurns?: number
  maxTokens?: number
  /** Dollars. */
  maxCost?: number
  /** Seconds. */
  timeout?: number
}

// -- events

export type AssistantMessageEvent =
  | { type: "text_start" | "thinking_start"; contentIndex: number }
  | { type: "text_delta" | "thinking_delta" | "toolcall_delta"; contentIndex: number; delta: string }
  | { type: "text_end" | "thinking_end"; contentIndex: number; content?: string }
  | { type: "toolcall_start" | "toolcall_end"; contentIndex: number; toolCall: ToolCallBlock }

interface Asked {
  runId: string
  toolCallId: string
  toolName: string
  input: JsonObject
  decisionId: string
  expiresAt?: number
}

interface Executed {
  toolCallId: string
  toolName: string
}

interface ToolResult {
  content: (TextBlock | ImageBlock)[]
  details?: unknown
}

type Payload =
  | { type: "agent_start"; runId: string; agent: string; messages: Message[] }
  | { type: "agent_resume"; runId: string; toolCallIds: string[] }
  | { type: "agent_pause"; runId: string; pending: PendingItem[]; reason?: string }
  | { type: "agent_end"; runId: string; status: RunStatus; usage: Usage; error?: RunError }
  | { type: "turn_start"; turn: number }
  | { type: "turn_end"; turn: number; message: AssistantMessage; toolResults: ToolResultMessage[] }
  | { type: "message_start" | "message_end"; message: Message }
  | { type: "message_update"; assistantMessageEvent: AssistantMessageEvent }
  | { type: "message_discard"; reason: string }
  | { type: "model_retry"; attempt: number; maxAttempts: number; delayMs: number; error: string }
  | ({ type: "tool_execution_start"; args: JsonObject } & Executed)
  | ({ type: "tool_execution_update"; args: JsonObject; partialResult: unknown } & Executed)
  | ({ type: "tool_execution_end"; result: ToolResult; isError: boolean } & Executed)
  | ({ type: "tool_decision_pending" | "tool_in_doubt"; schema: JsonObject } & Asked)
  | ({ type: "tool_client_execute_pending" } & Asked)
  | {
      type: "tool_decision_resolved"
      toolCallId: string
      decisionId: string
      outcome: "decided" | "rejected" | "expired"
      decision?: unknown
      reason?: string
      decidedBy?: string
    }

/** An event of a run's log. */
export type StoredEvent = Payload & { seq: number; timestamp: number }

/** Never stored: it stands for events that the server no longer keeps. */
export interface StreamReset {
  type: "stream_reset"
  run: Run
}

export type AgentEvent = StoredEvent | StreamReset

/** How an execution of a tool stands: what the page shows at its call. */
export interface ToolExecution {
  toolName: string
  status: "running" | "done"
  partialResult?: unknown
  result?: ToolResult
  isError?: boolean
}
