/** The turns of a run, and in each the steps: attempts, waits, what it took and cost. */
import type { Usage } from "@agentkit/react"
import { type ReactNode, useId, useState } from "react"
import { ExactText } from "../../content/Exact"
import { Arguments } from "../../decision/Request"
import { duration } from "../../decision/TimeLeft"
import { Link } from "../../frame/navigation"
import { now } from "../../server"
import { money } from "../../text"
import { Clipped } from "../parts/Clipped"
import type { Step, Turn, Wait } from "./timeline"

interface Props {
  turns: readonly Turn[]
  /** The run may still go on. */
  isOpen: boolean
  /** Starts another run after a turn; undefined where that cannot be done now. */
  onFork: ((turn: number, input: string) => Promise<void>) | undefined
}

/** Turns that are shown at first: the latest. */
const SHOWN = 30

export function TurnList({ turns, isOpen, onFork }: Props) {
  const [count, setCount] = useState(SHOWN)
  const hidden = Math.max(0, turns.length - count)
  return (
    <>
      {hidden > 0 && (
        <button type="button" onClick={() => setCount(count * 4)}>
          Show earlier turns ({hidden})
        </button>
      )}
      <ol className="rows turns">
        {turns.slice(hidden).map((turn) => (
          <li key={turn.turn} className="turn">
            <h2>
              Turn {turn.turn} <span className="faint">{took(turn.startedAt, turn.endedAt, isOpen)}</span>
            </h2>
            {turn.messages.map((text, at) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: messages only come at the end
              <p key={at} className="faint">
                Message: <Clipped text={text} />
              </p>
            ))}
            <ol className="steps">
              {turn.steps.map((step) => (
                <li key={step.toolCallId ?? "model"}>
                  <StepView step={step} isOpen={isOpen} />
                </li>
              ))}
            </ol>
            {onFork && turn.endedAt && <Fork turn={turn.turn} onFork={onFork} />}
          </li>
        ))}
      </ol>
    </>
  )
}

function StepView({ step, isOpen }: { step: Step; isOpen: boolean }) {
  const { kind, name, attempts, waits, notes, usage, error, input, result, childRunId } = step
  return (
    <>
      <p className="row-head">
        <b>{kind === "model" ? "Model" : "Tool"}</b>
        <code>
          <ExactText text={name || "…"} />
        </code>
        <span className={error ? "verdict rejected" : "verdict"}>{stateOf(step, isOpen)}</span>
        <span className="faint">
          {took(step.startedAt, step.endedAt, isOpen)}
          {attempts > 1 && ` · ${attempts} attempts`}
          <Used usage={usage} />
        </span>
      </p>
      {waits.map((wait) => (
        <p key={wait.since} className="faint">
          <WaitText wait={wait} isOpen={isOpen} />
        </p>
      ))}
      {notes.map((note, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: notes only come at the end
        <p key={at} className="faint">
          <Clipped text={note} />
        </p>
      ))}
      {error && (
        <p className="problem">
          <Clipped text={error} />
        </p>
      )}
      {childRunId && (
        <p>
          <Link to={{ view: "run", runId: childRunId }}>The sub-agent’s run</Link>
        </p>
      )}
      {kind === "tool" && input && (
        <details>
          <summary>
            Arguments and result of <ExactText text={name} />
          </summary>
          <Arguments input={input} />
          {result !== undefined && (
            <p className="result">
              <Clipped text={result} />
            </p>
          )}
        </details>
      )}
    </>
  )
}

function Used({ usage }: { usage: Usage | undefined }): ReactNode {
  if (!usage?.totalTokens) return null
  const dollars = usage.cost.total ? ` · ${money(usage.cost.total)}` : ""
  return ` · ${usage.totalTokens.toLocaleString("en")} tokens${dollars}`
}

function WaitText({ wait, isOpen }: { wait: Wait; isOpen: boolean }) {
  const { since, until, kind, reason, outcome } = wait
  const spent = until || isOpen ? ` ${duration((until ?? now()) - since)}` : ""
  return (
    <>
      {until || !isOpen ? "Waited" : "Waits"}
      {spent} for {kind}
      {reason && (
        <>
          {" "}
          (<ExactText text={reason} />)
        </>
      )}
      {outcome && (
        <>
          {": "}
          <ExactText text={outcome} />
        </>
      )}
    </>
  )
}

function stateOf({ kind, waits, startedAt, endedAt, result, error }: Step, isOpen: boolean): string {
  if (error) return "failed"
  if (endedAt || result !== undefined) return "done"
  if (waits.some(({ until }) => until === undefined) && isOpen) return "waits"
  if (kind === "tool" && !startedAt) return isOpen ? "next" : "not executed"
  return isOpen ? "running" : "not finished"
}

function took(from: number | undefined, to: number | undefined, isOpen: boolean): string {
  if (!from || !(to || isOpen)) return ""
  const ms = Math.max(0, (to ?? now()) - from)
  return ms < 1000 ? `${Math.round(ms)} ms` : ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms)
}

function Fork({ turn, onFork }: { turn: number; onFork: (turn: number, input: string) => Promise<void> }) {
  const id = useId()
  const [isOpen, setOpen] = useState(false)
  const [text, setText] = useState("")
  if (!isOpen) {
    return (
      <button type="button" className="small" onClick={() => setOpen(true)}>
        Fork after turn {turn} …
      </button>
    )
  }
  return (
    <form
      className="fork"
      onSubmit={(event) => {
        event.preventDefault()
        if (text.trim()) void onFork(turn, text.trim())
      }}
    >
      <label htmlFor={id}>Go on after turn {turn} in a new run with</label>
      <textarea
        id={id}
        dir="auto"
        required
        rows={2}
        value={text}
        // biome-ignore lint/a11y/noAutofocus: it appears because the person has just pressed its button
        autoFocus
        onChange={(event) => setText(event.target.value)}
      />
      <span className="actions">
        <button type="submit" className="primary">
          Start
        </button>
        <button type="button" onClick={() => setOpen(false)}>
          Cancel
        </button>
      </span>
    </form>
  )
}
