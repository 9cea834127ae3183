/** The conversation's messages, and below them the state of the run. */
import type {
  AssistantMessage,
  Message,
  ToolResultMessage,
  UseChatResult,
  UserContent,
} from "@agentkit/react"
import { Fragment } from "react"
import { Icon } from "../icons"
import { textOf } from "../text"
import { ChatDecision } from "./ChatDecision"
import { Answer, type Call, UserMessage } from "./Messages"
import { useBottom } from "./useBottom"

interface Props {
  chat: UseChatResult
  agent: string
  /** For whom the run works. */
  owner: string | undefined
  /** Messages that the agent has not seen yet. */
  unseen: string[]
}

export function Thread({ chat, agent, owner, unseen }: Props) {
  const { messages, status, isStreaming, pendingDecisions: pending, retry } = chat
  const { box, isAway, toBottom } = useBottom()
  const exchanges = exchangesOf(messages)
  const calls =
    exchanges.at(-1)?.answer?.content.flatMap((block) => (block.type === "toolCall" ? [block.id] : [])) ?? []
  const elsewhere = pending.filter((item) => !calls.includes(item.toolCallId))
  const decision = (item: (typeof pending)[number]) => (
    <ChatDecision key={item.decisionId} item={item} runId={chat.runId ?? ""} agent={agent} owner={owner} />
  )
  return (
    <>
      <div className="thread" ref={box}>
        <div className="column" tabIndex={-1}>
          {exchanges.map(({ key, user, answer, results }, at) => {
            const isLast = at === exchanges.length - 1
            const call = (id: string): Call => ({
              result: results.find((result) => result.toolCallId === id),
              execution: isLast ? chat.tools[id] : undefined,
              isPending: isLast && pending.some((item) => item.toolCallId === id),
              isBusy: isLast && (isStreaming || status === "paused"),
            })
            return (
              <Fragment key={key}>
                {user !== undefined && <UserMessage content={user} />}
                {answer && (
                  <Answer
                    message={answer}
                    call={call}
                    isOpen={isLast && isStreaming && messages.at(-1) === answer}
                  >
                    {(id) => isLast && pending.filter((item) => item.toolCallId === id).map(decision)}
                  </Answer>
                )}
              </Fragment>
            )
          })}
          {elsewhere.map(decision)}
          {unseen.map((text, at) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: two messages may have the same text
            <UserMessage key={at} content={text} note="It sees this at its next step" />
          ))}
          {isStreaming && (
            <p className="going">
              <span className="dots" aria-hidden="true">
                <i />
                <i />
                <i />
              </span>
              {retry
                ? `The model failed (${retry.error}). Asking again, attempt ${retry.attempt + 1} of ${retry.maxAttempts} …`
                : status === "submitted"
                  ? "Waiting for a worker …"
                  : ""}
            </p>
          )}
        </div>
      </div>
      {isAway && (
        <button type="button" className="round newest" onClick={toBottom} title="To the newest">
          <Icon name="down" />
          <span className="hidden">To the newest message</span>
        </button>
      )}
      <p className="hidden" role="status">
        {announcement(chat)}
      </p>
    </>
  )
}

/** The status for screen readers: it changes with the state of the run, and not with every token. */
function announcement({ status, messages, pendingDecisions: items }: UseChatResult): string {
  const place = items.length > 1 ? ` (1 of ${items.length})` : ""
  if (items[0]) return `${items[0].toolName} waits for your answer${place}.`
  if (status === "streaming" || status === "submitted") return "The agent is answering."
  const last = messages.at(-1)
  return last?.role === "assistant" ? `The agent said: ${textOf(last.content)}` : ""
}

interface Exchange {
  key: string
  /** A person's message … */
  user?: UserContent
  /** … or the agent's, with the results of its calls. */
  answer?: AssistantMessage
  results: ToolResultMessage[]
}

/** Call ids are unique only within a message, so that a result belongs to the answer before it. */
function exchangesOf(messages: readonly Message[]): Exchange[] {
  const exchanges: Exchange[] = []
  messages.forEach((message, at) => {
    if (message.role === "toolResult") exchanges.at(-1)?.results.push(message)
    else if (message.role === "user") exchanges.push({ key: `${at}`, user: message.content, results: [] })
    else exchanges.push({ key: `${at}`, answer: message, results: [] })
  })
  return exchanges
}
