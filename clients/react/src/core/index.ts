/** `@agentkit/react/core`: everything that works without React. */
export { Chat } from "./chat"
export { type Answer, Client, type ConnectionOptions, type Start, type StartBody } from "./client"
export { AgentKitError, type SchemaProblem } from "./errors"
export { EMPTY, fold, isTerminal, messagesOf, type RunState, stateOf, usageOf } from "./fold"
export { type Following, follow } from "./follow"
export type {
  AnswerOptions,
  Branches,
  ChatOptions,
  ChatSnapshot,
  ChatStatus,
  ClientTool,
  ClientToolContext,
  Finish,
  Tabs,
} from "./options"
export type * from "./types"
export type { RetryOptions } from "./wait"
