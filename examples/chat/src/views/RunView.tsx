/** One run: what it has done turn by turn, what it has used, what it waits for, and what can be done with it. */
import { AgentKitError } from "@agentkit/react"
import { useState } from "react"
import { ChatDecision } from "../chat/ChatDecision"
import { ExactText } from "../content/Exact"
import { explain } from "../explain"
import { useAnswerCount } from "../frame/answers"
import { Heading } from "../frame/Heading"
import { Link, useNavigation } from "../frame/navigation"
import { failureText, post, type Run, useServer } from "../server"
import { titleOf } from "../text"
import { Commands } from "./run/Commands"
import { Facts } from "./run/Facts"
import { RawEvents } from "./run/RawEvents"
import { TurnList } from "./run/TurnList"
import { useTimeline } from "./run/useTimeline"

const EVERY = 3000
const ENDED: readonly Run["status"][] = ["completed", "failed", "aborted"]

export default function RunView() {
  const { runId = "" } = useNavigation().place
  const path = `/runs/${encodeURIComponent(runId)}`
  const [isEnded, setEnded] = useState(false)
  const [commands, setCommands] = useState(0)
  const fresh = useAnswerCount() + commands
  const { data: run, failure } = useServer<Run>(path, isEnded ? undefined : EVERY, fresh)
  if (run && ENDED.includes(run.status) !== isEnded) setEnded(!isEnded)
  return (
    <div className="view">
      <Heading>{run ? <ExactText text={titleOf(run)} /> : "Run"}</Heading>
      {!!failure && (
        <div className="trouble" role="alert">
          <p>{failureText(failure)}</p>
          {failure === 404 && <Link to={{ view: "runs" }}>All runs</Link>}
        </div>
      )}
      {!run && failure === undefined && <p className="faint">One moment …</p>}
      {run && <Whole run={run} path={path} onChange={() => setCommands(commands + 1)} />}
    </div>
  )
}

function Whole({ run, path, onChange }: { run: Run; path: string; onChange: () => void }) {
  const { go } = useNavigation()
  const [error, setError] = useState<AgentKitError>()
  const { timeline, isCut, hasFailed } = useTimeline(run.id, run.lastSeq)
  const isOpen = !ENDED.includes(run.status)
  const attempt = async (command: () => Promise<void>) => {
    setError(undefined)
    try {
      await command()
    } catch (caught) {
      setError(caught instanceof AgentKitError ? caught : new AgentKitError("client_error", String(caught)))
    }
  }
  const abort = () =>
    attempt(async () => {
      await post(`${path}/abort`, {})
      onChange()
    })
  const start = (turn?: number, input?: string) =>
    attempt(async () => {
      const from = { runId: run.id, ...(turn !== undefined && { turn }) }
      const next = await post("/runs", { from, metadata: run.metadata, ...(input && { input }) })
      go({ view: "chat", runId: next.id })
    })
  return (
    <>
      <Commands {...{ run, isOpen }} onAbort={abort} onRetry={() => start()} />
      {error && (
        <div className="trouble" role="alert">
          <p>{explain(error)}</p>
        </div>
      )}
      <Facts run={run} />
      {run.pending.map((item) => (
        <div className="items" key={item.decisionId}>
          <ChatDecision item={item} runId={run.id} agent={run.agent} owner={run.owner} />
          {item.runId && item.runId !== run.id && (
            <p>
              <Link to={{ view: "run", runId: item.runId }}>The sub-agent’s run</Link>
            </p>
          )}
        </div>
      ))}
      {timeline.isPartial && (
        <p className="faint">The first events are not kept any more: what was before is without times.</p>
      )}
      {isCut && (
        <p className="faint">The run has more events than are shown here: GET /runs/…/events has all.</p>
      )}
      {hasFailed && <p className="faint">The events cannot be read at the moment.</p>}
      <TurnList turns={timeline.turns} isOpen={isOpen} onFork={isOpen ? undefined : start} />
      <RawEvents runId={run.id} lastSeq={run.lastSeq} />
    </>
  )
}
