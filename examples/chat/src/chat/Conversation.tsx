/** One conversation: a chat of @agentkit/react, its messages and its controls. */
import { useChat } from "@agentkit/react"
import { useEffect, useRef, useState } from "react"
import { createPortal } from "react-dom"
import { explain } from "../explain"
import { Heading } from "../frame/Heading"
import { useNavigation } from "../frame/navigation"
import { type Agent, API, newKey, type Run, useServer } from "../server"
import { money, short, textOf } from "../text"
import { Composer } from "./Composer"
import { Empty } from "./Empty"
import { Thread } from "./Thread"

interface Props {
  agent: Agent
  agents: readonly Agent[]
  /** The run that the conversation goes on with, if any. */
  run: Run | undefined
  onChoose: (agent: string) => void
}

/** A message that was sent while the agent works. */
interface SteeredMessage {
  text: string
  /** The number of messages when it was sent. */
  at: number
}

export function Conversation({ agent, agents, run, onChoose }: Props) {
  const { stay } = useNavigation()
  // By these the list of runs shows conversations: each message starts a run of its own.
  const metadata = useRef<Record<string, unknown>>({
    chat: run?.metadata.chat ?? newKey(),
    title: run?.metadata.title,
  })
  const [steered, setSteered] = useState<SteeredMessage[]>([])
  const chat = useChat({
    api: API,
    agent: agent.name,
    runId: run?.id,
    body: () => ({ metadata: metadata.current }),
  })
  const { messages, runId, status, isStreaming, error, usage } = chat
  useEffect(() => {
    if (runId) stay({ runId })
  }, [runId, stay])

  const isLoggedOut = error?.code === "unauthenticated"
  useServer(isLoggedOut ? "/agents" : undefined) // which says where to log in
  const isKnown = chat.refused === undefined // otherwise the server has refused the message
  const isBusy = isStreaming || status === "paused"
  const submit = async (text: string) => {
    if (!isBusy) {
      metadata.current.title ??= short(text, 60)
      setSteered([])
      void chat.send(text)
      return true
    }
    const isAccepted = await chat.steer(text)
    if (isAccepted) setSteered((before) => [...before, { text, at: messages.length }])
    return isAccepted
  }
  const unseen = steered.filter(
    ({ text, at }) => !messages.slice(at).some((one) => one.role === "user" && textOf(one.content) === text),
  )
  const agentChoice = agents.length > 1 && !messages.length && !run
  return (
    <>
      <Bar>
        {agentChoice ? (
          <select
            className="choice"
            aria-label="Agent"
            value={agent.name}
            onChange={(event) => onChoose(event.target.value)}
          >
            {agents.map((one) => (
              <option key={one.name}>{one.name}</option>
            ))}
          </select>
        ) : (
          <Heading>{run?.agent ?? agent.name}</Heading>
        )}
        <span className="faint model">{agent.model}</span>
      </Bar>
      {messages.length || run ? (
        <Thread
          chat={chat}
          agent={run?.agent ?? agent.name}
          owner={run?.owner}
          unseen={isBusy ? unseen.map(({ text }) => text) : []}
        />
      ) : (
        <Empty agent={agent} onPick={submit} />
      )}
      <div className="foot">
        {chat.isReconnecting && (
          <p className="trouble" role="status">
            The connection is lost. The run goes on without it; reconnecting …
          </p>
        )}
        {error && (
          <div className="trouble" role="alert">
            <p>{explain(error)}</p>
            {status === "error" && (
              <button
                type="button"
                onClick={
                  isKnown && (error.status || error.code === "unreachable") ? chat.rejoin : chat.reload
                }
              >
                {isKnown ? "Try again" : "Send again"}
              </button>
            )}
          </div>
        )}
        <Composer
          draft={run?.id ?? "new"}
          isBusy={isBusy}
          isPaused={status === "paused"}
          onSubmitText={submit}
          onStop={() => void chat.abort()}
        />
        <p className="usage">
          {usage.totalTokens > 0 && (
            <span title="What this conversation has used">
              {usage.totalTokens.toLocaleString("en")} tokens
              {usage.cost.total > 0 && ` · ${money(usage.cost.total)}`}
            </span>
          )}
        </p>
      </div>
    </>
  )
}

/** Renders its children in the page's header. */
function Bar({ children }: { children: React.ReactNode }) {
  const slot = document.getElementById("bar")
  return slot && createPortal(children, slot)
}
