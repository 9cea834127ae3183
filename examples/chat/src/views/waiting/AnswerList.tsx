/** How items were answered, newest first, from the record of answers, which outlives the runs. */
import type { AnsweredItem, AnswerPage } from "@agentkit/react"
import { Exact, ExactText } from "../../content/Exact"
import { Arguments } from "../../decision/Request"
import { verdictOf } from "../../decision/yesNo"
import { Link, useNavigation } from "../../frame/navigation"
import { useServer } from "../../server"
import { timeOf } from "../../text"
import { useFilters } from "../parts/filters"
import { Paging } from "../parts/Paging"
import { Trouble } from "../parts/Trouble"
import { ITEM_FILTERS, ItemFilters, KINDS } from "./ItemFilters"

const SIZE = 50

export function AnswerList() {
  const filters = useFilters(ITEM_FILTERS, ["show"])
  const { cursor } = useNavigation().place.query
  const search = new URLSearchParams({ ...filters.values, ...(cursor && { cursor }) }).toString()
  const hasFilters = Object.keys(filters.values).length > 0
  return (
    <>
      <ItemFilters filters={filters} />
      <Page key={search} search={search} onClear={hasFilters || cursor ? filters.clear : undefined} />
    </>
  )
}

function Page({ search, onClear }: { search: string; onClear: (() => void) | undefined }) {
  const { data, failure } = useServer<AnswerPage>(`/decisions?state=resolved&limit=${SIZE}&${search}`)
  if (!data)
    return failure === undefined ? (
      <p className="faint">One moment …</p>
    ) : (
      <Trouble {...{ failure, onClear }} />
    )
  return (
    <>
      {!data.decisions.length && (
        <p className="empty">
          {onClear
            ? "No answers that these filters select."
            : "No answers are on record. The answers to what waits will be here, as long as the server keeps its record."}
        </p>
      )}
      <ol className="rows">
        {data.decisions.map((answer) => (
          <Row key={answer.decisionId} answer={answer} />
        ))}
      </ol>
      <Paging nextCursor={data.nextCursor} next="Earlier answers" first="Latest answers" />
    </>
  )
}

function Row({ answer }: { answer: AnsweredItem }) {
  const { toolName, kind, runId, agent, owner, title, decidedAt, reason, input, editedInput } = answer
  return (
    <li className="row answered">
      <p className="row-head">
        <b>
          <ExactText text={toolName} />
        </b>
        <span className={`verdict ${outcomeOf(answer)}`}>{outcomeOf(answer)}</span>
        <time className="faint" dateTime={new Date(decidedAt).toISOString()}>
          {timeOf(decidedAt)}
        </time>
      </p>
      <p>
        {whoOf(answer)}
        {reason && (
          <>
            : “<ExactText text={reason} />”
          </>
        )}
      </p>
      <p className="faint">
        {kind !== "decision" && `${KINDS[kind]} · `}
        <ExactText text={owner ? `${agent} for ${owner}` : agent} /> ·{" "}
        <Link to={{ view: "run", runId }}>
          <ExactText text={title || `Run …${runId.slice(-6)}`} />
        </Link>
      </p>
      <details>
        <summary>Details</summary>
        {answer.outcome === "decided" && kind !== "client_execute" && (
          <p>
            Decision: <Exact value={answer.decision ?? null} />
          </p>
        )}
        {answer.votes && (
          <p>
            Given by <ExactText text={answer.votes.map((vote) => vote.decidedBy).join(", ")} />
          </p>
        )}
        {input ? (
          <Arguments input={input} />
        ) : (
          <p className="faint">
            The run is not kept any more: of its arguments, the record has the SHA-256 alone.
          </p>
        )}
        {editedInput && (
          <>
            <p>Executed with changed arguments:</p>
            <Arguments input={editedInput} />
          </>
        )}
      </details>
    </li>
  )
}

function outcomeOf({ outcome, decision, kind }: AnsweredItem): string {
  if (outcome !== "decided") return outcome
  return kind === "decision" ? verdictOf(decision) : "answered"
}

function whoOf({ outcome, decidedBy, remembered }: AnsweredItem): React.ReactNode {
  if (outcome === "expired") return "Nobody answered in time"
  const who = decidedBy ? <ExactText text={decidedBy} /> : "somebody who was not named"
  return (
    <>
      by {who}
      {remembered && ", by an earlier answer that is remembered"}
    </>
  )
}
