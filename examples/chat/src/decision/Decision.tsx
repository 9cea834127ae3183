/** A pending item: what the tool would do, and a form for the answer, made from the item's JSON Schema. */
import type { JsonObject, PendingItem, UseChatResult } from "@agentkit/react"
import { Suspense, useId, useRef, useState } from "react"
import { passesFocusOn } from "../frame/focus"
import { Icon } from "../icons"
import type { Tool } from "../server"
import { show } from "../text"
import { AnyForm } from "./form/AnyForm"
import type { FormHandle } from "./form/AnyJson"

interface Props {
  item: PendingItem
  tool: Tool | undefined
  chat: UseChatResult
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

export function Decision({ item, tool, chat }: Props) {
  const { kind, toolCallId, input } = item
  const id = useId()
  const [mode, setMode] = useState<"answer" | "reject">("answer")
  const [isEditing, setEditing] = useState(false)
  const [isSending, setSending] = useState(false)
  const [reason, setReason] = useState("")
  const answer = useRef<FormHandle>(null)
  const edited = useRef<FormHandle>(null)
  const texts = TEXTS[kind]
  const mayEdit = kind === "decision" && Object.keys((tool?.parameters.properties as object) ?? {}).length > 0

  const submit = async () => {
    const changed = isEditing ? edited.current?.read() : undefined
    const value = mode === "answer" ? answer.current?.read() : undefined
    if (isSending || (isEditing && mode === "answer" && !changed) || (mode === "answer" && !value)) return
    setSending(true)
    const { respondWithDecision, reject } = chat
    const isAccepted = await (value
      ? respondWithDecision(value.value, {
          toolCallId,
          ...(changed && { input: changed.value as JsonObject }),
        })
      : reject(reason.trim() || "no reason was given", { toolCallId }))
    if (!isAccepted) setSending(false)
  }
  return (
    <section className="decision" aria-labelledby={`${id}-title`} tabIndex={-1} ref={passesFocusOn}>
      <header>
        <Icon name="hand" />
        <h3 id={`${id}-title`}>{texts.title}</h3>
        {item.expiresAt && <span className="faint">until {clock(item.expiresAt)}</span>}
      </header>
      <p>
        <b>{tool?.label || item.toolName}</b>
        {tool?.description && `: ${tool.description}`}
      </p>
      {texts.text && <p className="faint">{texts.text}</p>}
      <Suspense fallback={<p className="faint">…</p>}>
        <form
          noValidate
          onSubmit={(event) => {
            event.preventDefault()
            void submit()
          }}
        >
          {isEditing && tool ? (
            <fieldset disabled={mode === "reject"}>
              <legend>Input</legend>
              <AnyForm id={`${id}-input`} schema={tool.parameters} first={input} handle={edited} />
            </fieldset>
          ) : (
            <Values of={input} />
          )}
          <div hidden={mode === "reject"}>
            <AnyForm id={`${id}-answer`} schema={item.schema} handle={answer} />
          </div>
          {mode === "reject" && (
            <label className="reason">
              Why not? The agent gets the reason.
              <input
                // biome-ignore lint/a11y/noAutofocus: it appears because the person has just pressed its button
                autoFocus
                value={reason}
                onChange={(event) => setReason(event.target.value)}
                placeholder="Reason"
              />
            </label>
          )}
          <div className="actions">
            <button
              type="submit"
              className={mode === "reject" ? "danger" : "primary"}
              aria-disabled={isSending} // `disabled` would lose the focus
            >
              {mode === "reject" ? "Reject" : "Submit"}
            </button>
            {kind !== "in_doubt" && (
              <button
                type="button"
                onClick={() => setMode(mode === "reject" ? "answer" : "reject")}
                disabled={isSending}
              >
                {mode === "reject" ? "Back" : "Reject …"}
              </button>
            )}
            {mayEdit && mode === "answer" && (
              <button type="button" onClick={() => setEditing(!isEditing)} disabled={isSending}>
                {isEditing ? "Undo changes" : "Edit input"}
              </button>
            )}
          </div>
        </form>
      </Suspense>
    </section>
  )
}

function Values({ of }: { of: JsonObject }) {
  const entries = Object.entries(of)
  if (!entries.length) return null
  return (
    <dl className="values">
      {entries.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{show(value)}</dd>
        </div>
      ))}
    </dl>
  )
}

function clock(time: number): string {
  const isToday = new Date(time).toDateString() === new Date().toDateString()
  return new Date(time).toLocaleString(
    undefined,
    isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" },
  )
}
