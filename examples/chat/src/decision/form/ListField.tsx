/** A list: its first items as the schema names them, and any number of others. */
import { useRef, useState } from "react"
import { Field, type KindProps } from "./Field"
import { itemsOf, pointer } from "./schema"

export function ListField({ node, path, name, value, onChange, label, help, problem, aria }: KindProps) {
  const { first, others } = itemsOf(node.schema)
  const items: unknown[] = Array.isArray(value) ? value : []
  const length = Math.max(items.length, first.length)
  const most = typeof node.schema.maxItems === "number" ? node.schema.maxItems : Number.POSITIVE_INFINITY
  // An item keeps its key where one before it is removed.
  const [keys, setKeys] = useState(() => Array.from({ length }, (_, at) => at))
  const next = useRef(length)
  const put = (at: number, item: unknown) => {
    onChange(Array.from({ length: Math.max(length, at + 1) }, (_, one) => (one === at ? item : items[one])))
  }
  const add = () => {
    setKeys([...keys, next.current++])
    onChange([...Array.from({ length }, (_, at) => items[at]), undefined])
  }
  const remove = (at: number) => {
    setKeys(keys.filter((_, one) => one !== at))
    onChange(items.filter((_, one) => one !== at))
  }
  return (
    <fieldset aria-describedby={aria["aria-describedby"]}>
      <legend>{label}</legend>
      {help}
      {Array.from({ length }, (_, at) => {
        const title = `${name} ${at + 1}`
        return (
          <div className="item" key={keys[at] ?? at}>
            <Field
              schema={first[at] ?? others}
              path={pointer(path, at)}
              name={title}
              isRequired
              value={items[at]}
              onChange={(item) => put(at, item)}
            />
            {at >= first.length && (
              <button type="button" className="add" onClick={() => remove(at)}>
                Remove {title}
              </button>
            )}
          </div>
        )
      })}
      {others !== false && length < most && (
        <button type="button" className="add" onClick={add}>
          Add {name}
        </button>
      )}
      {problem}
    </fieldset>
  )
}
