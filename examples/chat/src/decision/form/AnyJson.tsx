/** A field for text or JSON: where a schema says too little for a form, or the form cannot be rendered. */
import { type Ref, useImperativeHandle, useState } from "react"

export interface FormHandle {
  /** Returns the value, or undefined while it does not satisfy the schema, which the form then shows. */
  read: () => { value: unknown } | undefined
}

export interface FieldProps {
  id: string
  /** The initial value. */
  first?: unknown
  handle: Ref<FormHandle>
}

export function AnyJson({ id, first, handle }: FieldProps) {
  const [text, setText] = useState(first === undefined ? "" : JSON.stringify(first, null, 2))
  useImperativeHandle(handle, () => ({ read: () => ({ value: parsed(text) }) }))
  return (
    <label className="json" htmlFor={id}>
      Answer, as text or JSON
      <textarea id={id} rows={3} value={text} onChange={(event) => setText(event.target.value)} />
    </label>
  )
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
