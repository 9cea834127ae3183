/** A form from a JSON Schema. A schema that says too little, or too much, gets a field for JSON. */
import { useImperativeHandle, useLayoutEffect, useMemo, useRef, useState } from "react"
import { AnyJson, type AnyJsonProps } from "./AnyJson"
import { isSmall } from "./bounded"
import { Field } from "./Field"
import type { Schema } from "./merge"
import { FormContext, useForm } from "./store"
import type { Problem } from "./validator"

export interface Props extends AnyJsonProps {
  schema: Schema
  /** What a person reads in place of values, such as those of a verdict. */
  labels?: Readonly<Record<string, string>> | undefined
}

export default function SchemaForm({ schema, labels, ...props }: Props) {
  const labelled = useMemo(() => (labels ? withLabels(schema, labels) : schema), [schema, labels])
  return isForm(schema) ? <Fields schema={labelled} {...props} /> : <AnyJson {...props} />
}

function Fields({ id, schema, first, handle }: Props) {
  const { store, value, setValue, problems, read, refuse } = useForm(id, schema, first)
  useImperativeHandle(handle, () => ({ read, refuse }))
  const isWhole = schema.type !== "object" && !schema.properties
  return (
    <FormContext value={store}>
      <div className="fields">
        <Field
          schema={schema}
          path=""
          name={isWhole ? "Answer" : ""}
          isRequired
          value={value}
          onChange={setValue}
        />
        <Unplaced problems={problems} />
      </div>
    </FormContext>
  )
}

/** What is wrong at places that no field shows. */
function Unplaced({ problems }: { problems: readonly Problem[] }) {
  const list = useRef<HTMLUListElement>(null)
  const [unplaced, setUnplaced] = useState<readonly Problem[]>([])
  useLayoutEffect(() => {
    const shown = [...(list.current?.parentElement?.querySelectorAll<HTMLElement>("[data-path]") ?? [])]
    const paths = new Set(shown.map((field) => field.dataset.path))
    setUnplaced(problems.filter(({ path }) => !paths.has(path)))
  }, [problems])
  return (
    <ul className="problem" ref={list} hidden={!unplaced.length}>
      {unplaced.map(({ path, message }) => (
        <li key={path}>
          {path.slice(1)} {message}
        </li>
      ))}
    </ul>
  )
}

const KINDS = ["type", "properties", "enum", "const", "oneOf", "anyOf", "allOf", "$ref"]

function isForm(schema: Schema): boolean {
  return KINDS.some((key) => key in schema) && isSmall(schema)
}

/** Gives the values of `enum` at the first level labels. */
function withLabels(schema: Schema, labels: Readonly<Record<string, string>>): Schema {
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Schema>).map(
    ([name, field]) => {
      if (!Array.isArray(field.enum)) return [name, field]
      const { enum: values, ...rest } = field
      return [
        name,
        {
          ...rest,
          oneOf: values.map((value) => ({ const: value, title: labels[String(value)] ?? String(value) })),
        },
      ]
    },
  )
  return { ...schema, properties: Object.fromEntries(properties) }
}
