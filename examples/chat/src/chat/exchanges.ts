/** A conversation as it is shown: each message of a person or the agent, with what belongs to it. Pure. */
import type {
  AssistantMessage,
  ConversationRun,
  Message,
  ResolvedDecision,
  ToolExecution,
  ToolResultMessage,
  UserContent,
} from "@agentkit/react"

export interface Exchange {
  /** The index of its message. */
  at: number
  /** A person's message … */
  user?: UserContent
  /** … or the agent's, with the results of its calls. */
  answer?: AssistantMessage
  results: ToolResultMessage[]
  /** The run that the message is of, as far as it is known. */
  run: ConversationRun | undefined
}

/** Call ids are unique only within a message, so that a result belongs to the answer before it. */
export function exchangesOf(messages: readonly Message[], runs: readonly ConversationRun[]): Exchange[] {
  const exchanges: Exchange[] = []
  messages.forEach((message, at) => {
    if (message.role === "toolResult") {
      exchanges.at(-1)?.results.push(message)
      return
    }
    const run = runs.findLast((one) => one.at <= at)
    const content = message.role === "user" ? { user: message.content } : { answer: message }
    exchanges.push({ at, results: [], run, ...content })
  })
  return exchanges
}

/** How a call of an exchange was executed, and the answers that it needed. */
export function callOf(
  { results, run }: Exchange,
  id: string,
): {
  result: ToolResultMessage | undefined
  execution: ToolExecution | undefined
  decisions: readonly ResolvedDecision[]
} {
  return {
    result: results.find((result) => result.toolCallId === id),
    execution: run?.tools[id],
    decisions: run?.decisions.filter((decision) => decision.toolCallId === id) ?? [],
  }
}
