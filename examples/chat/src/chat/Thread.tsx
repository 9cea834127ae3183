/** The conversation's messages, and below them the state of the run. */
import type { PendingItem, UseChatResult } from "@agentkit/react"
import { Fragment, useState } from "react"
import { Icon } from "../icons"
import { textOf } from "../text"
import { Branches } from "./Branches"
import { ChatDecision } from "./ChatDecision"
import { Edited } from "./Edited"
import { callOf, type Exchange, exchangesOf } from "./exchanges"
import { Answer, UserMessage } from "./Messages"
import { Progress } from "./Progress"
import { Queued } from "./Queued"
import type { Call } from "./ToolCall"
import { useBottom } from "./useBottom"

interface Props {
  chat: UseChatResult
  agent: string
  /** For whom the run works. */
  owner: string | undefined
}

export function Thread({ chat, agent, owner }: Props) {
  const { messages, runs, status, isStreaming, pendingDecisions: pending } = chat
  const { box, isAway, toBottom } = useBottom()
  const [edited, setEdited] = useState<number>()
  const exchanges = exchangesOf(messages, runs)
  const last = exchanges.at(-1)
  const calls = last?.answer?.content.flatMap((block) => (block.type === "toolCall" ? [block.id] : [])) ?? []
  const elsewhere = pending.filter((item) => !calls.includes(item.toolCallId))
  const isBusy = isStreaming || status === "paused"
  const decision = (item: PendingItem) => (
    <ChatDecision key={item.decisionId} item={item} runId={chat.runId ?? ""} agent={agent} owner={owner} />
  )
  const branches = ({ at }: Exchange) => {
    const runIds = chat.branches[at]
    return runIds && <Branches runIds={runIds} shown={chat.runId} onOpen={(runId) => void chat.open(runId)} />
  }
  return (
    <>
      <div className="thread" ref={box}>
        <div className="column" tabIndex={-1}>
          {exchanges.map((exchange, index) => {
            const { at, user, answer } = exchange
            const isLast = exchange === last
            const call = (id: string): Call => ({
              ...callOf(exchange, id),
              isPending: isLast && pending.some((item) => item.toolCallId === id),
              isBusy: isLast && isBusy,
            })
            return (
              <Fragment key={at}>
                {user !== undefined &&
                  (edited === at ? (
                    <Edited
                      content={user}
                      onCancel={() => setEdited(undefined)}
                      onSend={(content) => {
                        setEdited(undefined)
                        void chat.edit(at, content)
                      }}
                    />
                  ) : (
                    <UserMessage content={user}>
                      <div className="message-actions">
                        {branches(exchange)}
                        {!isBusy && (
                          <button type="button" className="ghost" title="Edit" onClick={() => setEdited(at)}>
                            <Icon name="edit" />
                            <span className="hidden">Edit this message</span>
                          </button>
                        )}
                      </div>
                    </UserMessage>
                  ))}
                {answer && (
                  <Answer
                    message={answer}
                    call={call}
                    isOpen={isLast && isStreaming && messages.at(-1) === answer}
                    isEnd={exchanges[index + 1]?.answer === undefined && !(isLast && isBusy)}
                    below={(id) => isLast && pending.filter((item) => item.toolCallId === id).map(decision)}
                  >
                    {branches(exchange)}
                    {isLast && !isBusy && (
                      <button
                        type="button"
                        className="ghost"
                        title="Answer again"
                        onClick={() => void chat.regenerate()}
                      >
                        <Icon name="again" />
                        <span className="hidden">Answer again</span>
                      </button>
                    )}
                  </Answer>
                )}
              </Fragment>
            )
          })}
          {elsewhere.map(decision)}
          <Queued chat={chat} />
          <Progress chat={chat} />
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
