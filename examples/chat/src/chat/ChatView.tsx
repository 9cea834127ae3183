/** The chat: loads the run that the URL names, and with it its agent, before the conversation opens. */
import { useState } from "react"
import { useAgents } from "../frame/agents"
import { useNavigation } from "../frame/navigation"
import { failureText, type Run, useServer } from "../server"
import { Conversation } from "./Conversation"

export default function ChatView() {
  const { place, go } = useNavigation()
  const agents = useAgents()
  const [chosen, setChosen] = useState<string>()
  const [initialRunId] = useState(place.runId) // the conversation itself follows its later runs
  const { data: run, failure } = useServer<Run>(initialRunId && `/runs/${encodeURIComponent(initialRunId)}`)
  if (initialRunId && !run) {
    return (
      <div className="notice" role="status">
        <p>{failure === undefined ? "Opening the run …" : failureText(failure)}</p>
        {failure === 404 && (
          <button type="button" className="primary" onClick={() => go({ view: "chat" })}>
            New chat
          </button>
        )}
      </div>
    )
  }
  const agent = agents.find((one) => one.name === (run?.agent ?? chosen)) ?? agents[0]
  if (!agent) return <p className="notice">This application has no agents.</p>
  // A run whose agent no longer exists can be read; a new message goes to another agent.
  return <Conversation key={run ? "" : agent.name} {...{ agent, agents, run, onChoose: setChosen }} />
}
