/** The page: recent runs at the side, one conversation in the middle. */
import { useCallback, useEffect, useRef, useState } from "react"
import { Conversation } from "./Conversation"
import { Icon } from "./icons"
import { usePlace } from "./place"
import { Sidebar } from "./Sidebar"
import { type Agent, type Run, useServer } from "./server"

export function App() {
  const { place, go, stay } = usePlace()
  const agents = useServer<{ agents: Agent[] }>("/agents")
  const [chosen, setChosen] = useState<string>()
  const [drawer, setDrawer] = useState(false)
  const opener = useRef<HTMLButtonElement>(null)
  const close = useCallback(() => setDrawer(false), [])
  const visit = (runId?: string) => {
    close()
    go(runId)
  }
  useEffect(() => {
    const key = (event: KeyboardEvent) => event.key === "Escape" && close()
    addEventListener("keydown", key)
    return () => removeEventListener("keydown", key)
  }, [close])
  useEffect(() => {
    if (!drawer) return
    const phone = matchMedia("(max-width: 47rem)") // as in layout.css: above that width the side is not a drawer
    phone.addEventListener("change", close)
    return () => {
      phone.removeEventListener("change", close)
      opener.current?.focus()
    }
  }, [drawer, close])

  const agentList = agents.data?.agents
  return (
    <div className="page">
      <Sidebar isOpen={drawer} runId={place.runId} onVisit={visit} onClose={close} />
      <main inert={drawer}>
        <header className="bar">
          <button type="button" className="ghost only-phone" ref={opener} onClick={() => setDrawer(true)}>
            <Icon name="menu" />
            <span className="hidden">Show recent runs</span>
          </button>
          <span className="brand only-phone">agentkit</span>
          <span id="bar" className="bar-slot" />
          <button type="button" className="ghost only-phone" onClick={() => visit()}>
            <Icon name="plus" />
            <span className="hidden">New chat</span>
          </button>
        </header>
        {agentList ? (
          <ConversationLoader
            key={place.visit}
            runId={place.runId}
            agents={agentList}
            chosen={chosen}
            onChoose={setChosen}
            onRun={stay}
            onNew={() => visit()}
          />
        ) : (
          <p className="notice" role="status">
            {agents.failure === undefined ? "One moment …" : failureText(agents.failure)}
          </p>
        )}
      </main>
    </div>
  )
}

interface ConversationLoaderProps {
  runId: string | undefined
  agents: Agent[]
  chosen: string | undefined
  onChoose: (agent: string) => void
  onRun: (runId: string) => void
  onNew: () => void
}

/** Loads the run, and with it its agent, before the conversation opens. */
function ConversationLoader({ runId, agents, chosen, onChoose, onRun, onNew }: ConversationLoaderProps) {
  const [initialRunId] = useState(runId) // the conversation itself follows its later runs
  const { data: run, failure: status } = useServer<Run>(
    initialRunId && `/runs/${encodeURIComponent(initialRunId)}`,
  )
  if (initialRunId && !run) {
    return (
      <div className="notice" role="status">
        <p>
          {status === undefined
            ? "Opening the run …"
            : status === 404
              ? "There is no such run (any more)."
              : failureText(status)}
        </p>
        {status === 404 && (
          <button type="button" className="primary" onClick={onNew}>
            New chat
          </button>
        )}
      </div>
    )
  }
  const agent = agents.find((one) => one.name === (run?.agent ?? chosen)) ?? agents[0]
  if (!agent) return <p className="notice">This application has no agents.</p>
  // A run whose agent no longer exists can be read; a new message goes to another agent.
  return <Conversation key={run ? "" : agent.name} {...{ agent, agents, run, onChoose, onRun }} />
}

function failureText(status: number): string {
  if (status === 401 || status === 403)
    return "This server needs authentication, which this page does not support."
  return status
    ? `The server cannot answer at the moment (${status}). Trying again …`
    : "The server does not answer. Trying again …"
}
