/** A pending item as a card: what would be executed, and the answers that a person may give. Nothing is chosen before. */
import type { Answer, JsonObject, PendingItem } from "@agentkit/react"
import { Suspense, useCallback, useId, useMemo, useRef, useState } from "react"
import { explain } from "../explain"
import { usePrincipal } from "../frame/agents"
import { passesFocusOn, toFirstMistake } from "../frame/focus"
import { Icon } from "../icons"
import type { Tool } from "../server"
import { Actions, type Mode } from "./Actions"
import { AnyForm } from "./form/AnyForm"
import type { FormHandle } from "./form/AnyJson"
import { Arguments, Request } from "./Request"
import { TimeLeft } from "./TimeLeft"
import { useAnswer } from "./useAnswer"
import { Votes } from "./Votes"
import { decisionOf, yesNoOf } from "./yesNo"

interface Props {
  item: PendingItem
  /** The run that lists the item: an answer is sent to it. */
  runId: string
  /** The tool of the run that owns the item, as far as it is known. */
  tool: Tool | undefined
  agent?: string | undefined
  owner?: string | undefined
  /** Called when the server has accepted the answer. */
  onAnswered?: () => void
}

const TEXTS: Record<PendingItem["kind"], { title: string; text: string }> = {
  decision: { title: "Your decision, please", text: "" },
  client_execute: {
    title: "To be done outside of the server",
    text: "The agent asks its client to execute this and to report the result, as text or JSON.",
  },
  in_doubt: {
    title: "What became of this?",
    text: "A worker died while it was executing this call, which must not happen twice. Please find out, and say how to go on.",
  },
}

const VERDICTS = {
  retry: "It did not happen: execute it again",
  done: "It happened",
  failed: "It failed: report that to the agent",
}

export function Decision({ item: listed, runId, tool, agent, owner, onAnswered }: Props) {
  const id = useId()
  const principal = usePrincipal()
  const { item, state, error, send, extend } = useAnswer(runId, listed, onAnswered)
  const { kind, schema, input } = item
  const [mode, setMode] = useState<Mode>("answer")
  const [isEditing, setEditing] = useState(false)
  const [isRemembered, setRemembered] = useState(false)
  const [reason, setReason] = useState("")
  const [mistakes, setMistakes] = useState("")
  const card = useRef<HTMLElement>(null)
  const attach = useCallback((element: HTMLElement | null) => {
    card.current = element
    return passesFocusOn(element)
  }, [])
  const answerForm = useRef<FormHandle>(null)
  const inputForm = useRef<FormHandle>(null)
  const yesNo = useMemo(() => (kind === "decision" ? yesNoOf(schema) : undefined), [kind, schema])
  const form = yesNo ? yesNo.rest : schema
  const hasVoted = !!item.approvals && item.votes?.some((vote) => vote.decidedBy === principal)
  const hasFields = Object.keys((tool?.parameters.properties as object) ?? {}).length > 0
  const mayEdit = kind === "decision" && hasFields && !item.proposal

  const refuse = (text: string) => {
    setMistakes(text)
    toFirstMistake(card.current)
  }
  const deliver = async (answer: Answer) => {
    setMistakes("")
    const failure = await send(answer)
    if (!failure?.errors.length) return
    const wrong = failure.code === "input_invalid" ? inputForm : answerForm
    wrong.current?.refuse(failure.errors)
    toFirstMistake(card.current)
  }
  const submit = (choice?: boolean) => {
    if (state !== "open") return
    if (mode === "reject") return void deliver({ reject: { reason: reason.trim() || "no reason was given" } })
    const edited = isEditing ? inputForm.current?.read() : undefined
    const fields = form ? answerForm.current?.read() : { value: undefined }
    if (!fields || (isEditing && !edited)) return refuse("Not sent: something is missing or wrong.")
    if (yesNo && choice === undefined) return refuse("Not sent: please approve or decline.")
    const value = yesNo ? decisionOf(yesNo, choice as boolean, fields.value) : fields.value
    // Votes count together where they are for the same arguments.
    const changed = (edited?.value as JsonObject | undefined) ?? item.proposal?.input
    void deliver({
      ...(kind === "client_execute" ? { result: value } : { decision: value }),
      ...(changed && { input: changed }),
      ...(isRemembered && { remember: true }),
    })
  }

  return (
    <article className="decision" aria-labelledby={`${id}-title`} tabIndex={-1} ref={attach}>
      <header>
        <Icon name="hand" />
        <h2 id={`${id}-title`}>{TEXTS[kind].title}</h2>
        {item.expiresAt && (
          <TimeLeft createdAt={item.createdAt} expiresAt={item.expiresAt} onExtend={extend} />
        )}
      </header>
      <Request {...{ item, tool, agent, owner }} />
      {TEXTS[kind].text && <p className="faint">{TEXTS[kind].text}</p>}
      <Suspense fallback={<p className="faint">…</p>}>
        <form
          noValidate
          onSubmit={(event) => {
            event.preventDefault()
            if (mode === "reject" || !yesNo) submit() // Enter in a field is neither a yes nor a no
          }}
        >
          {isEditing && tool ? (
            <fieldset className="edited" disabled={mode === "reject"}>
              <legend>Arguments to execute it with</legend>
              <AnyForm id={`${id}-input`} schema={tool.parameters} first={input} handle={inputForm} />
            </fieldset>
          ) : (
            <Arguments input={item.proposal?.input ?? input} />
          )}
          {item.proposal?.input && (
            <p className="faint">Those who have decided have changed the arguments.</p>
          )}
          <Votes item={item} />
          {hasVoted ? (
            <p role="status">
              Your decision is recorded. It waits for {(item.approvals ?? 0) - (item.votes?.length ?? 0)}{" "}
              more.
            </p>
          ) : (
            <>
              <div hidden={mode === "reject"} className="answer-form">
                {yesNo?.question && <p>{yesNo.question}</p>}
                {form && (
                  <AnyForm
                    id={`${id}-answer`}
                    schema={form}
                    labels={kind === "in_doubt" ? VERDICTS : undefined}
                    handle={answerForm}
                  />
                )}
              </div>
              {mode === "reject" && (
                <label className="reason">
                  Why not? The agent gets the reason.
                  <input
                    // biome-ignore lint/a11y/noAutofocus: it appears because the person has just pressed its button
                    autoFocus
                    dir="auto"
                    value={reason}
                    onChange={(event) => setReason(event.target.value)}
                  />
                </label>
              )}
              {item.remember && (
                <label className="remember">
                  <input
                    type="checkbox"
                    checked={isRemembered}
                    onChange={(event) => setRemembered(event.target.checked)}
                  />
                  Answer further calls of {tool?.label || item.toolName} in this run alike, without asking
                </label>
              )}
              <p className="mistakes" role="alert">
                {mistakes || (error && explain(error))}
              </p>
              <Actions
                mode={mode}
                yesNo={yesNo}
                isSending={state !== "open"}
                mayReject={kind !== "in_doubt"}
                mayEdit={mayEdit && mode === "answer"}
                isEditing={isEditing}
                onChoose={submit}
                onMode={setMode}
                onEdit={() => setEditing(!isEditing)}
              />
            </>
          )}
        </form>
      </Suspense>
    </article>
  )
}
