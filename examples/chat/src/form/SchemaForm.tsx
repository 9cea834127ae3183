/** A form from a JSON Schema, by @rjsf/core. What no form can show is asked for as JSON. */
// Not the package itself, whose index asks for a validator that evaluates code.
import Form from "@rjsf/core/lib/components/Form.js"
import type { RJSFSchema, UiSchema } from "@rjsf/utils"
import { type Ref, useImperativeHandle, useMemo, useRef, useState } from "react"
import { validator } from "./validator"

export interface Filled {
  /** The value, or undefined while it misses the schema, which the form then shows. */
  read: () => { value: unknown } | undefined
}

interface Props {
  id: string
  schema: object
  /** What it is filled with. */
  first?: unknown
  handle: Ref<Filled>
}

export default function SchemaForm({ id, schema, first, handle }: Props) {
  return hasForm(schema) ? (
    <Fields id={id} schema={schema} first={first} handle={handle} />
  ) : (
    <AnyJson id={id} schema={schema} first={first} handle={handle} />
  )
}

function Fields({ id, schema, first, handle }: Props) {
  const form = useRef<Form>(null)
  const [data, setData] = useState(first)
  const uiSchema = useMemo(() => looks(schema), [schema])
  useImperativeHandle(handle, () => ({
    read: () => (form.current?.validateForm() ? { value: plain(form.current.state.formData) } : undefined),
  }))
  return (
    <Form
      ref={form}
      tagName="div" // the form around it holds two of them
      idPrefix={id}
      schema={schema}
      uiSchema={uiSchema}
      validator={validator}
      formData={data}
      onChange={(event) => setData(event.formData)}
      showErrorList={false}
      experimental_defaultFormStateBehavior={{ requiredBooleanDefault: "skip" }} // nobody says no by saying nothing
      noHtml5Validate
    />
  )
}

function AnyJson({ id, first, handle }: Props) {
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

/** Without what was emptied again: rjsf leaves `undefined` there. */
function plain(value: unknown): unknown {
  return value === undefined ? null : JSON.parse(JSON.stringify(value))
}

const KINDS = ["type", "properties", "enum", "const", "oneOf", "anyOf", "allOf", "$ref"]

function hasForm(schema: object): boolean {
  return KINDS.some((key) => key in schema)
}

const VERDICTS: Record<string, string> = {
  retry: "It did not happen: execute it again",
  done: "It happened",
  failed: "It failed: tell the agent so",
}

/** Few choices stand side by side, long texts get room. */
function looks(schema: RJSFSchema): UiSchema {
  const ui: UiSchema = { "ui:submitButtonOptions": { norender: true } }
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    if (typeof field === "object") ui[name] = looks(field as RJSFSchema)
  }
  const choices = Array.isArray(schema.enum) ? schema.enum : []
  if (schema.type === "boolean" || (choices.length > 0 && choices.length <= 4)) ui["ui:widget"] = "radio"
  if (choices.length && choices.every((one) => VERDICTS[String(one)])) {
    ui["ui:enumNames"] = choices.map((one) => VERDICTS[String(one)] ?? String(one))
  }
  if (schema.type === "string" && (schema.maxLength ?? 0) > 200) ui["ui:widget"] = "textarea"
  return ui
}
