/** A call of a tool: what it was executed with, how it stands, what it came to; below it the receipts of its decisions. */
import type { ResolvedDecision, ToolCallBlock, ToolExecution, ToolResultMessage } from "@agentkit/react"
import { Media } from "../content/Media"
import { Pre } from "../content/Pre"
import { Icon, type IconName } from "../icons"
import { pretty, short, show, textOf } from "../text"
import { Receipt } from "./Receipt"

/** The state of a call beside its block. */
export interface Call {
  result: ToolResultMessage | undefined
  execution: ToolExecution | undefined
  /** The answers that it needed, in their order. */
  decisions: readonly ResolvedDecision[]
  isPending: boolean
  /** The run is going on, and may still execute it. */
  isBusy: boolean
}

interface Props extends Call {
  block: ToolCallBlock
  /** It is still being written. */
  grows: boolean
}

type State = "writing" | "next" | "waiting" | "running" | "done" | "failed" | "refused" | "expired" | "left"

const STATES: Record<State, [label: string, icon: IconName | undefined]> = {
  writing: ["preparing", undefined],
  next: ["up next", undefined],
  waiting: ["needs you", "hand"],
  running: ["running", undefined],
  done: ["done", "check"],
  failed: ["failed", "cross"],
  refused: ["rejected", "cross"],
  expired: ["expired", "clock"],
  left: ["not executed", "dash"],
}

export function ToolCall({ block, grows, ...call }: Props) {
  const { execution, decisions } = call
  const state = stateOf(call, grows)
  const [label, icon] = STATES[state]
  const result = call.result?.content ?? execution?.result?.content
  const partial = result ? undefined : execution?.partialResult
  const edit = decisions.findLast((decision) => decision.editedInput && decision.kind === "decision")
  const executed = execution?.input ?? edit?.editedInput ?? block.arguments
  const values = Object.values(executed)
  return (
    <>
      <details className={`tool ${state}`} data-tool={block.name} data-state={state}>
        <summary>
          <span className="tool-icon">{icon ? <Icon name={icon} /> : <i className="spinner" />}</span>
          <b>{block.name}</b>
          <span className="tool-arguments" dir="auto">
            {short(values.map(show).join(", "), 80)}
          </span>
          <span className="tool-state">{label}</span>
          <Icon name="chevron" />
        </summary>
        <div className="tool-more">
          <p className="part">{edit ? "Arguments, as they were changed" : "Arguments"}</p>
          <Pre>{values.length ? show(executed) : (block.rawArguments ?? "none")}</Pre>
          {edit && (
            <>
              <p className="part">What the agent had asked for</p>
              <Pre>{show(edit.input)}</Pre>
            </>
          )}
          {partial !== undefined && (
            <>
              <p className="part">So far</p>
              <Pre>{show(partial)}</Pre>
            </>
          )}
          {result && (
            <>
              <p className="part">{state === "done" ? "Result" : "Error"}</p>
              {result.map((one, at) =>
                one.type === "text" ? (
                  // biome-ignore lint/suspicious/noArrayIndexKey: a result never changes
                  <Pre key={at}>{pretty(one.text)}</Pre>
                ) : (
                  // biome-ignore lint/suspicious/noArrayIndexKey: a result never changes
                  <Media key={at} block={one} />
                ),
              )}
            </>
          )}
        </div>
      </details>
      {decisions.map((decision) => (
        <Receipt key={decision.decisionId} decision={decision} />
      ))}
    </>
  )
}

function stateOf({ result, execution, decisions, isPending, isBusy }: Call, grows: boolean): State {
  if (result) {
    if (!result.isError) return "done"
    const outcome = decisions.at(-1)?.outcome
    if (outcome === "expired") return "expired"
    // Where the run's log is gone, the text of the result is all there is.
    const isRejected = outcome === "rejected" || (!outcome && textOf(result.content).startsWith("rejected: "))
    return isRejected ? "refused" : "failed"
  }
  if (isPending) return "waiting"
  if (execution?.status === "done") return execution.isError ? "failed" : "done"
  if (execution && isBusy) return "running"
  if (grows) return "writing"
  return isBusy ? "next" : "left"
}
