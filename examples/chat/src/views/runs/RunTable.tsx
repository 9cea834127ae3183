/** Runs as rows; on a phone each is a small block with the names of its values. */
import type { RunSummary } from "@agentkit/react"
import type { ReactNode } from "react"
import { ExactText } from "../../content/Exact"
import { Link } from "../../frame/navigation"
import { now } from "../../server"
import { money, STATUS, titleOf } from "../../text"
import { age } from "../parts/age"

const COLUMNS = ["Run", "Agent", "Status", "Owner", "Age", "Turns", "Tokens", "Dollars"]

export function RunTable({ children }: { children: ReactNode }) {
  return (
    <div>
      <div className="table-row table-head" aria-hidden="true">
        {COLUMNS.map((name) => (
          <span key={name}>{name}</span>
        ))}
      </div>
      <ol className="rows">{children}</ol>
    </div>
  )
}

export function RunRow({ run }: { run: RunSummary }) {
  const { totalTokens, cost } = run.usage
  return (
    <li className="table-row">
      <span className="table-title">
        <Link to={{ view: "run", runId: run.id }}>
          <ExactText text={titleOf(run)} />
        </Link>
        {run.parentRunId && <span className="faint"> · a sub-agent’s</span>}
        {run.origin && <span className="faint"> · from another run</span>}
      </span>
      <Value name="Agent">
        <ExactText text={run.agent} />
      </Value>
      <Value name="Status">
        <span className={`dot ${run.status}`} /> {STATUS[run.status]}
      </Value>
      <Value name="Owner">{run.owner ? <ExactText text={run.owner} /> : "–"}</Value>
      <Value name="Age">
        <time
          dateTime={new Date(run.createdAt).toISOString()}
          title={new Date(run.createdAt).toLocaleString()}
        >
          {age(now() - run.createdAt)}
        </time>
      </Value>
      <Value name="Turns">{run.turn}</Value>
      <Value name="Tokens">{totalTokens.toLocaleString("en")}</Value>
      <Value name="Dollars">{cost.total ? money(cost.total) : "–"}</Value>
    </li>
  )
}

function Value({ name, children }: { name: string; children: ReactNode }) {
  return (
    <span className="table-value">
      <span className="table-name">{name}: </span>
      {children}
    </span>
  )
}
