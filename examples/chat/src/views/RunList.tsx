/** A list of runs, each a link to its view. */
import { Link } from "../frame/navigation"
import { type ListedRun, useServer } from "../server"
import { ago, STATUS, titleOf } from "../text"

export function RunList({ path, none }: { path: string; none: string }) {
  const { data } = useServer<{ runs: ListedRun[] }>(path, 4000)
  return (
    <ul className="list">
      {data?.runs.map((run) => (
        <li key={run.id}>
          <Link to={{ view: "run", runId: run.id }}>{titleOf(run)}</Link>
          <span className="faint">
            {run.agent} · {STATUS[run.status]} · {ago(run.updatedAt)}
          </span>
        </li>
      ))}
      {data && !data.runs.length && <li className="faint">{none}</li>}
    </ul>
  )
}
