/** A form from a JSON Schema, by @rjsf/core. What no form can show is asked for as JSON. */
// Not the package itself, whose index asks for a validator that evaluates code.
import Form from "@rjsf/core/lib/components/Form.js"
import type {
  Experimental_DefaultFormStateBehavior,
  MultiSchemaFieldTemplateProps,
  RJSFSchema,
  UiSchema,
} from "@rjsf/utils"
import { useImperativeHandle, useMemo, useRef, useState } from "react"
import { AnyJson, type Asked } from "./AnyJson"
import { validator } from "./validator"

export interface Props extends Asked {
  schema: object
}

const DEFAULTS: Experimental_DefaultFormStateBehavior = {
  requiredBooleanDefault: "skip", // nobody says no by saying nothing
  arrayMinItems: { populate: "requiredOnly" }, // what may be left out is left out
}

const TEMPLATES = { MultiSchemaFieldTemplate: Choice }

/** One schema of several. rjsf's own leaves the chooser without a name. */
function Choice({ selector, optionSchemaField }: MultiSchemaFieldTemplateProps) {
  return (
    <div>
      {/* biome-ignore lint/a11y/noLabelWithoutControl: the selector is the control */}
      <label>
        <span className="hidden">Kind</span>
        {selector}
      </label>
      {optionSchemaField}
    </div>
  )
}

export default function SchemaForm({ schema, ...asked }: Props) {
  return hasForm(schema) ? <Fields schema={schema} {...asked} /> : <AnyJson {...asked} />
}

function Fields({ id, schema, first, handle }: Props) {
  const form = useRef<Form>(null)
  const [data, setData] = useState(first)
  const shown = useMemo(() => named(schema), [schema])
  const uiSchema = useMemo(() => looks(schema), [schema])
  useImperativeHandle(handle, () => ({
    read: () => (form.current?.validateForm() ? { value: plain(form.current.state.formData) } : undefined),
  }))
  return (
    <Form
      ref={form}
      tagName="div" // the form around it holds two of them
      idPrefix={id}
      schema={shown}
      uiSchema={uiSchema}
      validator={validator}
      formData={data}
      onChange={(event) => setData(event.formData)}
      showErrorList={false}
      useFallbackUiForUnsupportedType // what may be anything is asked for with its type
      experimental_defaultFormStateBehavior={DEFAULTS}
      templates={TEMPLATES}
      noHtml5Validate
    />
  )
}

/** Without what was emptied again: rjsf leaves `undefined` there. */
function plain(value: unknown): unknown {
  return value === undefined ? null : JSON.parse(JSON.stringify(value))
}

const KINDS = ["type", "properties", "enum", "const", "oneOf", "anyOf", "allOf", "$ref"]

function hasForm(schema: object): boolean {
  return KINDS.some((key) => key in schema)
}

/** rjsf passes over fields that may be anything. With a title they are asked for. */
function named(schema: RJSFSchema): RJSFSchema {
  if (!schema.properties) return schema
  const fields = Object.entries(schema.properties).map(([name, field]) => {
    if (typeof field !== "object") return [name, field ? { title: name } : field]
    return [name, Object.keys(field).length ? named(field) : { title: name }]
  })
  return { ...schema, properties: Object.fromEntries(fields) }
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
