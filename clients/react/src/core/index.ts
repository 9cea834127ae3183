/** `@agentkit/react/core`: everything that works without React. */
export { Chat } from "./chat"
export { type Answer, Client, type ConnectionOptions, type StartBody } from "./client"
export { AgentKitError, type SchemaProblem } from "./errors"
export { EMPTY, fold, isTerminal, messagesOf, type RunState, stateOf, usageOf } from "./fold"
export { type Following, follow } from "./follow"
export type {
  AnswerOptions,
  ChatOptions,
  ChatSnapshot,
  ChatStatus,
  ClientTool,
  ClientToolContext,
  Finish,
} from "./options"
export type * from "./types"
export type { RetryOptions } from "./wait"
