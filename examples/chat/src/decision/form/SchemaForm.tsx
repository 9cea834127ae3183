/** A form from a JSON Schema, by @rjsf/core. A schema that says too little gets a field for JSON. */
// Not the package itself, whose index imports a validator that evaluates code.
import Form from "@rjsf/core/lib/components/Form.js"
import type {
  Experimental_DefaultFormStateBehavior,
  MultiSchemaFieldTemplateProps,
  RJSFSchema,
  UiSchema,
} from "@rjsf/utils"
import { useImperativeHandle, useMemo, useRef, useState } from "react"
import { AnyJson, type FieldProps } from "./AnyJson"
import { isSmall } from "./bounded"
import { validator } from "./validator"

export interface Props extends FieldProps {
  schema: object
}

const DEFAULTS: Experimental_DefaultFormStateBehavior = {
  requiredBooleanDefault: "skip", // an untouched field is not an answer of no
  arrayMinItems: { populate: "requiredOnly" }, // optional items are left out
}

const TEMPLATES = { MultiSchemaFieldTemplate: Choice }

/** A choice among schemas. rjsf's template leaves the select without a label. */
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

export default function SchemaForm({ schema, ...props }: Props) {
  return hasForm(schema) && isSmall(schema) ? <Fields schema={schema} {...props} /> : <AnyJson {...props} />
}

function Fields({ id, schema, first, handle }: Props) {
  const form = useRef<Form>(null)
  const [data, setData] = useState(first)
  const titledSchema = useMemo(() => withTitles(schema), [schema])
  const uiSchema = useMemo(() => uiSchemaOf(schema), [schema])
  useImperativeHandle(handle, () => ({
    read: () =>
      form.current?.validateForm() ? { value: withoutUndefined(form.current.state.formData) } : undefined,
  }))
  return (
    <Form
      ref={form}
      tagName="div" // the surrounding form contains two of them
      idPrefix={id}
      schema={titledSchema}
      uiSchema={uiSchema}
      validator={validator}
      formData={data}
      onChange={(event) => setData(event.formData)}
      showErrorList={false}
      useFallbackUiForUnsupportedType // a field of any type gets a select of types
      experimental_defaultFormStateBehavior={DEFAULTS}
      templates={TEMPLATES}
      noHtml5Validate
    />
  )
}

/** Removes fields that were emptied again: rjsf leaves `undefined` there. */
function withoutUndefined(value: unknown): unknown {
  return value === undefined ? null : JSON.parse(JSON.stringify(value))
}

const KINDS = ["type", "properties", "enum", "const", "oneOf", "anyOf", "allOf", "$ref"]

function hasForm(schema: object): boolean {
  return KINDS.some((key) => key in schema)
}

/** Adds titles: without one, rjsf leaves out fields of any type. */
function withTitles(schema: RJSFSchema): RJSFSchema {
  if (!schema.properties) return schema
  const fields = Object.entries(schema.properties).map(([name, field]) => {
    if (typeof field !== "object") return [name, field ? { title: name } : field]
    return [name, Object.keys(field).length ? withTitles(field) : { title: name }]
  })
  return { ...schema, properties: Object.fromEntries(fields) }
}

const VERDICTS: Record<string, string> = {
  retry: "It did not happen: execute it again",
  done: "It happened",
  failed: "It failed: report that to the agent",
}

/** Makes the uiSchema: few choices as radio buttons, long texts as a textarea. */
function uiSchemaOf(schema: RJSFSchema): UiSchema {
  const ui: UiSchema = { "ui:submitButtonOptions": { norender: true } }
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    if (typeof field === "object") ui[name] = uiSchemaOf(field as RJSFSchema)
  }
  const choices = Array.isArray(schema.enum) ? schema.enum : []
  if (schema.type === "boolean" || (choices.length > 0 && choices.length <= 4)) ui["ui:widget"] = "radio"
  if (choices.length && choices.every((one) => VERDICTS[String(one)])) {
    ui["ui:enumNames"] = choices.map((one) => VERDICTS[String(one)] ?? String(one))
  }
  if (schema.type === "string" && (schema.maxLength ?? 0) > 200) ui["ui:widget"] = "textarea"
  return ui
}
