/** How many of those who must decide alike have decided. */
import type { PendingItem } from "@agentkit/react"
import { timeOf } from "../text"
import { verdictOf } from "./yesNo"

export function Votes({ item }: { item: PendingItem }) {
  const { approvals, votes = [], proposal } = item
  if (!approvals || approvals < 2) return null
  return (
    <div className="votes">
      <p>
        {approvals} people must give the same decision; {votes.length || "none"} of them{" "}
        {votes.length === 1 ? "has" : "have"} decided.
      </p>
      {votes.length > 0 && (
        <ul>
          {votes.map(({ decidedBy, decidedAt }) => (
            <li key={decidedBy}>
              {decidedBy}: {verdictOf(proposal?.decision)} <span className="faint">{timeOf(decidedAt)}</span>
            </li>
          ))}
        </ul>
      )}
    </div>
  )
}
