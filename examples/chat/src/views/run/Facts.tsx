/** What a run is and has used, in names and values. */
import type { Run } from "@agentkit/react"
import type { ReactNode } from "react"
import { ExactText } from "../../content/Exact"
import { Link } from "../../frame/navigation"
import { money, STATUS, timeOf } from "../../text"

export function Facts({ run }: { run: Run }) {
  const { usage, discarded, origin, parentRunId, error } = run
  return (
    <dl className="facts">
      <Fact name="Status">
        <span className={`dot ${run.status}`} /> {STATUS[run.status]}
      </Fact>
      {error && (
        <Fact name="Error">
          <code>{error.code}</code>: <ExactText text={error.message} />
        </Fact>
      )}
      <Fact name="Agent">
        <ExactText text={run.agent} /> <span className="faint">{run.model}</span>
      </Fact>
      {run.owner && (
        <Fact name="Owner">
          <ExactText text={run.owner} />
        </Fact>
      )}
      <Fact name="Started">{timeOf(run.createdAt)}</Fact>
      {run.endedAt && <Fact name="Ended">{timeOf(run.endedAt)}</Fact>}
      <Fact name="Turns">{run.turn}</Fact>
      <Fact name="Tokens">
        {usage.totalTokens.toLocaleString("en")}{" "}
        <span className="faint">
          {usage.input.toLocaleString("en")} in, {usage.output.toLocaleString("en")} out
          {usage.cacheRead > 0 && `, ${usage.cacheRead.toLocaleString("en")} from a cache`}
          {!!discarded?.totalTokens &&
            `; failed attempts used ${discarded.totalTokens.toLocaleString("en")} more`}
        </span>
      </Fact>
      {usage.cost.total > 0 && <Fact name="Dollars">{money(usage.cost.total)}</Fact>}
      {origin && (
        <Fact name="From">
          <Link to={{ view: "run", runId: origin.runId }}>another run</Link>, after turn {origin.turn}
        </Fact>
      )}
      {parentRunId && (
        <Fact name="Sub-agent of">
          <Link to={{ view: "run", runId: parentRunId }}>the run that asked it</Link>
        </Fact>
      )}
      <Fact name="Id">
        <code>{run.id}</code>
      </Fact>
    </dl>
  )
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  )
}
