/** One run. */
import { Heading } from "../frame/Heading"
import { Link, useNavigation } from "../frame/navigation"
import { type Run, useServer } from "../server"
import { STATUS, titleOf } from "../text"

export default function RunView() {
  const { runId = "" } = useNavigation().place
  const { data: run, failure } = useServer<Run>(`/runs/${encodeURIComponent(runId)}`, 4000)
  return (
    <div className="view">
      <Heading>{run ? titleOf(run) : "Run"}</Heading>
      {run && (
        <p>
          {STATUS[run.status]} · <Link to={{ view: "chat", runId }}>Open the chat</Link>
        </p>
      )}
      {failure === 404 && <p className="faint">There is no such run (any more).</p>}
    </div>
  )
}
