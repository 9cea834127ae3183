/** Fields that are written into: text, times, numbers, JSON. Each keeps what was typed, as it was typed. */
import { useState } from "react"
import type { KindProps } from "./Field"
import { parsed } from "./json"
import { fromField, offsetOf, type TimeFormat, toField } from "./times"

const TIMES: Record<TimeFormat, string> = { date: "date", time: "time", "date-time": "datetime-local" }
const INPUTS: Record<string, string> = { email: "email", uri: "url", url: "url" }
/** A text that may be longer than this has several lines. */
const LONG = 200

export function TextField(props: KindProps) {
  const { node, value, onChange } = props
  const { format, maxLength } = node.schema
  const [first] = useState(value)
  const text = typeof value === "string" ? value : ""
  // A field that is emptied has no value, unless it came as the empty text.
  const put = (next: string) => onChange(next === "" && first !== "" ? undefined : next)
  const kind = typeof format === "string" && format in TIMES ? (format as TimeFormat) : undefined
  const shown = kind && toField(kind, text)
  if (kind && (shown !== undefined || !text)) {
    const before = typeof first === "string" ? first : undefined
    return (
      <Labelled
        {...props}
        note={kind !== "date" && !before ? `Time zone: UTC${offsetOf(new Date())}` : undefined}
      >
        <input
          id={props.id}
          type={TIMES[kind]}
          step={kind === "date" ? undefined : 1}
          value={shown ?? ""}
          onChange={(event) => put(event.target.value && fromField(kind, event.target.value, before))}
          {...props.aria}
        />
      </Labelled>
    )
  }
  const isLong =
    (typeof maxLength === "number" && maxLength > LONG) || text.includes("\n") || text.length > LONG
  return (
    <Labelled {...props}>
      {isLong ? (
        <textarea
          id={props.id}
          dir="auto"
          rows={3}
          value={text}
          onChange={(event) => put(event.target.value)}
          {...props.aria}
        />
      ) : (
        <input
          id={props.id}
          dir="auto"
          type={INPUTS[String(format)] ?? "text"}
          value={text}
          onChange={(event) => put(event.target.value)}
          {...props.aria}
        />
      )}
    </Labelled>
  )
}

export function NumberField(props: KindProps) {
  const { node, value, onChange } = props
  const [text, setText] = useState(value === undefined ? "" : String(value))
  return (
    <Labelled {...props}>
      <input
        id={props.id}
        inputMode={node.schema.type === "integer" ? "numeric" : "decimal"}
        autoComplete="off"
        value={text}
        onChange={(event) => {
          setText(event.target.value)
          onChange(numberOf(event.target.value.trim()))
        }}
        {...props.aria}
      />
    </Labelled>
  )
}

/** A number, nothing for no text, and any other text as it is, which the schema then refuses. */
function numberOf(text: string): number | string | undefined {
  if (!text) return undefined
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(text) ? Number(text) : text
}

export function JsonField(props: KindProps) {
  const { node, value, onChange } = props
  const [text, setText] = useState(value === undefined ? "" : JSON.stringify(value, null, 2))
  const mayBeText = node.schema.type === undefined || [node.schema.type].flat().includes("string")
  return (
    <Labelled {...props} note={mayBeText ? "As text or JSON" : "As JSON"}>
      <textarea
        id={props.id}
        className="code"
        dir="auto"
        rows={3}
        value={text}
        onChange={(event) => {
          setText(event.target.value)
          onChange(event.target.value.trim() ? parsed(event.target.value) : undefined)
        }}
        {...props.aria}
      />
    </Labelled>
  )
}

interface LabelledProps extends KindProps {
  note?: string | undefined
  children: React.ReactNode
}

function Labelled({ id, label, help, problem, note, children }: LabelledProps) {
  return (
    <>
      <label htmlFor={id}>{label}</label>
      {help}
      {note && <p className="help">{note}</p>}
      {children}
      {problem}
    </>
  )
}
