/** A field for text or JSON: where a schema says too little for a form, or the form cannot be rendered. */
import type { SchemaProblem } from "@agentkit/react"
import { type Ref, useImperativeHandle, useState } from "react"
import { parsed } from "./json"

/** What is around a form may do with it. */
export interface FormHandle {
  /** Returns the value, or undefined while it does not satisfy the schema, which the form then shows. */
  read: () => { value: unknown } | undefined
  /** Shows what the server says is wrong. */
  refuse: (problems: readonly SchemaProblem[]) => void
}

export interface AnyJsonProps {
  id: string
  /** The initial value. */
  first?: unknown
  handle: Ref<FormHandle>
}

export function AnyJson({ id, first, handle }: AnyJsonProps) {
  const [text, setText] = useState(first === undefined ? "" : JSON.stringify(first, null, 2))
  const [problem, setProblem] = useState("")
  useImperativeHandle(handle, () => ({
    read: () => {
      setProblem(text.trim() ? "" : "is required")
      return text.trim() ? { value: parsed(text) } : undefined
    },
    refuse: (problems) =>
      setProblem(problems.map(({ path, message }) => `${path.slice(1)} ${message}`.trim()).join("; ")),
  }))
  return (
    <div className="field json">
      <label htmlFor={id}>Answer, as text or JSON</label>
      <textarea
        id={id}
        className="code"
        rows={3}
        value={text}
        aria-invalid={!!problem}
        aria-describedby={problem ? `${id}-problem` : undefined}
        onChange={(event) => setText(event.target.value)}
      />
      {problem && (
        <p className="problem" id={`${id}-problem`}>
          {problem}
        </p>
      )}
    </div>
  )
}
