/** What became of a decision: by whom, when, and how it differs from what the agent had asked for. */
import type { JsonObject, ResolvedDecision } from "@agentkit/react"
import { Exact, ExactText } from "../content/Exact"
import { verdictOf } from "../decision/yesNo"
import { Icon, type IconName } from "../icons"
import { timeOf } from "../text"

export function Receipt({ decision }: { decision: ResolvedDecision }) {
  const { outcome, kind, reason, input, editedInput, remember, remembered, votes, decidedAt } = decision
  const names = votes?.length ? votes.map((vote) => vote.decidedBy) : [decision.decidedBy].filter(Boolean)
  const given = outcome === "decided" || outcome === "rejected" ? "" : "nobody answered in time"
  return (
    <div className={`receipt ${outcome}`} data-outcome={outcome}>
      <Icon name={ICONS[outcome]} />
      <p>
        <b>{headline(decision)}</b>
        {names.length > 0 && ` by ${names.join(" and ")}`}
        {given && `: ${given}`}
        {reason && outcome === "rejected" && (
          <>
            : <ExactText text={reason} />
          </>
        )}
        {editedInput && kind === "decision" && <Changes from={input} to={editedInput} />}
        {remember && ", remembered for this run"}
        {remembered && ", as remembered, without asking"}
        <time className="faint" dateTime={new Date(decidedAt).toISOString()}>
          {" "}
          {timeOf(decidedAt)}
        </time>
      </p>
    </div>
  )
}

const ICONS: Record<ResolvedDecision["outcome"], IconName> = {
  decided: "check",
  rejected: "cross",
  expired: "clock",
}

function headline({ outcome, kind, decision }: ResolvedDecision): string {
  if (outcome === "rejected") return "Rejected"
  if (outcome === "expired")
    return decision === undefined ? "Expired" : `Expired, so it counts as ${verdictOf(decision)}`
  if (kind === "client_execute") return "Result given"
  if (kind === "in_doubt")
    return VERDICTS[(decision as { verdict?: string } | null)?.verdict ?? ""] ?? "Decided"
  const verdict = verdictOf(decision)
  return verdict.charAt(0).toUpperCase() + verdict.slice(1)
}

const VERDICTS: Record<string, string> = {
  retry: "Executed again, as it had not happened",
  done: "It had happened",
  failed: "It had failed",
}

/** The arguments that were changed. */
function Changes({ from, to }: { from: JsonObject; to: JsonObject }) {
  const names = [...new Set([...Object.keys(from), ...Object.keys(to)])]
  const changed = names.filter((name) => JSON.stringify(from[name]) !== JSON.stringify(to[name]))
  return changed.map((name) => (
    <span className="change" key={name}>
      , {name}: <Value value={from[name]} /> → <Value value={to[name]} />
    </span>
  ))
}

function Value({ value }: { value: unknown }) {
  return value === undefined ? "nothing" : <Exact value={value} />
}
