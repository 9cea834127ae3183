/** One conversation: a chat of @agentkit/react, its messages and its controls. */
import { type UserContent, useChat } from "@agentkit/react"
import { useEffect, useRef, useState } from "react"
import { createPortal } from "react-dom"
import { Heading } from "../frame/Heading"
import { useNavigation } from "../frame/navigation"
import { Icon } from "../icons"
import { type Agent, API, newKey, type Run } from "../server"
import { money, short, textOf } from "../text"
import { Composer } from "./Composer"
import { Empty } from "./Empty"
import { Search } from "./Search"
import { Thread } from "./Thread"
import { Trouble } from "./Trouble"

interface Props {
  agent: Agent
  agents: readonly Agent[]
  /** The run that the conversation goes on with, if any. */
  run: Run | undefined
  onChoose: (agent: string) => void
}

export function Conversation({ agent, agents, run, onChoose }: Props) {
  const { stay } = useNavigation()
  const [isSearching, setSearching] = useState(false)
  // By these the list of runs shows conversations: each message starts a run of its own.
  const metadata = useRef<Record<string, unknown>>({
    chat: run?.metadata.chat ?? newKey(),
    title: run?.metadata.title,
  })
  const chat = useChat({
    api: API,
    agent: agent.name,
    runId: run?.id,
    body: () => ({ metadata: metadata.current }),
  })
  const { messages, runId, status, isStreaming, usage } = chat
  useEffect(() => {
    if (runId) stay({ runId })
  }, [runId, stay])

  const isBusy = isStreaming || status === "paused"
  const send = async (content: UserContent) => {
    if (isBusy) return chat.steer(content)
    metadata.current.title ??= short(textOf(content), 60) || "Files"
    void chat.send(content) // what is refused stays in the thread, with a button to send it again
    return true
  }
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
        {messages.length > 0 && (
          <button
            type="button"
            className="ghost to-end"
            title="Search in this chat"
            aria-expanded={isSearching}
            onClick={() => setSearching(!isSearching)}
          >
            <Icon name="search" />
            <span className="hidden">Search in this chat</span>
          </button>
        )}
      </Bar>
      {isSearching && <Search onClose={() => setSearching(false)} />}
      {messages.length || run ? (
        <Thread chat={chat} agent={run?.agent ?? agent.name} owner={run?.owner} />
      ) : (
        <Empty agent={agent} onPick={send} />
      )}
      <div className="foot">
        <Trouble chat={chat} />
        <Composer
          draft={run?.id ?? "new"}
          takes={agent.capabilities}
          isBusy={isBusy}
          isPaused={status === "paused"}
          onSend={send}
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
