/** A value asked for as text or JSON: where a schema says too little for a form, or no form can be shown. */
import { type Ref, useImperativeHandle, useState } from "react"

export interface Filled {
  /** The value, or undefined while it misses the schema, which the form then shows. */
  read: () => { value: unknown } | undefined
}

export interface Asked {
  id: string
  /** What it is filled with. */
  first?: unknown
  handle: Ref<Filled>
}

export function AnyJson({ id, first, handle }: Asked) {
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
