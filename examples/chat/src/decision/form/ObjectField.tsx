/** Named fields. */
import { Field, type KindProps } from "./Field"
import { asSchema, texts } from "./merge"
import { pointer } from "./schema"

export function ObjectField({ node, path, value, onChange, label, help, problem, aria }: KindProps) {
  const fields = Object.entries(asSchema(node.schema.properties)).map(([name, schema]) => (
    <Field
      key={name}
      schema={schema}
      path={pointer(path, name)}
      name={name}
      isRequired={texts(node.schema.required).includes(name)}
      value={asSchema(value)[name]}
      onChange={(field) => onChange(withField(asSchema(value), name, field))}
    />
  ))
  if (!path) {
    return (
      <>
        {help}
        {problem}
        {fields}
      </>
    )
  }
  return (
    <fieldset aria-describedby={aria["aria-describedby"]}>
      <legend>{label}</legend>
      {help}
      {problem}
      {fields}
    </fieldset>
  )
}

function withField(value: Record<string, unknown>, name: string, field: unknown): Record<string, unknown> {
  const { [name]: _, ...others } = value
  return field === undefined ? others : { ...value, [name]: field }
}
