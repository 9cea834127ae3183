/** The conversation's messages, and below them what is going on. */
import type { AssistantMessage, Message, ToolResultMessage, UseChatResult } from "@agentkit/react"
import { Fragment } from "react"
import { Decision } from "./Decision"
import { Icon } from "./icons"
import { Answer, type Call, Said } from "./Messages"
import type { Agent } from "./server"
import { textOf } from "./text"
import { useBottom } from "./useBottom"

interface Props {
  chat: UseChatResult
  agent: Agent
  /** What was said meanwhile and the agent has not seen yet. */
  unseen: string[]
}

export function Thread({ chat, agent, unseen }: Props) {
  const { messages, status, isStreaming, pendingDecisions: pending, retry } = chat
  const { box, isAway, toBottom } = useBottom()
  const rounds = roundsOf(messages)
  const calls =
    rounds.at(-1)?.answer?.content.flatMap((block) => (block.type === "toolCall" ? [block.id] : [])) ?? []
  const elsewhere = pending.filter((item) => !calls.includes(item.toolCallId))
  const decision = (item: (typeof pending)[number]) => (
    <Decision
      key={item.decisionId}
      item={item}
      tool={agent.tools.find((tool) => tool.name === item.toolName)}
      chat={chat}
    />
  )
  return (
    <>
      <div className="thread" ref={box}>
        <div className="column" tabIndex={-1}>
          {rounds.map(({ key, said, answer, results }, at) => {
            const isLast = at === rounds.length - 1
            const call = (id: string): Call => ({
              result: results.find((result) => result.toolCallId === id),
              execution: isLast ? chat.tools[id] : undefined,
              isPending: isLast && pending.some((item) => item.toolCallId === id),
              isBusy: isLast && (isStreaming || status === "paused"),
            })
            return (
              <Fragment key={key}>
                {said !== undefined && <Said text={said} />}
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
            // biome-ignore lint/suspicious/noArrayIndexKey: the same may be said twice
            <Said key={at} text={text} note="It sees this at its next step" />
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
        {news(chat)}
      </p>
    </>
  )
}

/** For those who hear the page: not every token, but every turn of events. */
function news({ status, messages, pendingDecisions: items }: UseChatResult): string {
  const place = items.length > 1 ? ` (1 of ${items.length})` : ""
  if (items[0]) return `${items[0].toolName} waits for your answer${place}.`
  if (status === "streaming" || status === "submitted") return "The agent is answering."
  const last = messages.at(-1)
  return last?.role === "assistant" ? `The agent said: ${textOf(last.content)}` : ""
}

interface Round {
  key: string
  /** A person's message … */
  said?: string
  /** … or the agent's, with the results of its calls. */
  answer?: AssistantMessage
  results: ToolResultMessage[]
}

/** Call ids are unique only within a message, so that a result belongs to the answer before it. */
function roundsOf(messages: readonly Message[]): Round[] {
  const rounds: Round[] = []
  messages.forEach((message, at) => {
    if (message.role === "toolResult") rounds.at(-1)?.results.push(message)
    else if (message.role === "user")
      rounds.push({ key: `${at}`, said: textOf(message.content), results: [] })
    else rounds.push({ key: `${at}`, answer: message, results: [] })
  })
  return rounds
}
