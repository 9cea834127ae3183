/** The fields by which a list is filtered. */
import { type ReactNode, useEffect, useId, useState } from "react"
import type { Filters } from "./filters"

interface BarProps {
  filters: Filters
  children: ReactNode
}

export function FilterBar({ filters, children }: BarProps) {
  return (
    <search className="filters">
      {children}
      {Object.keys(filters.values).length > 0 && (
        <button type="button" onClick={filters.clear}>
          Clear filters
        </button>
      )}
    </search>
  )
}

interface FieldProps {
  filters: Filters
  name: string
  label: string
}

/** One of several values. One that the URL names and that is not among them is shown as it is. */
export function Choice({
  filters,
  name,
  label,
  values,
}: FieldProps & { values: readonly (readonly [value: string, label: string])[] }) {
  const id = useId()
  const value = filters.values[name] ?? ""
  const isKnown = !value || values.some(([one]) => one === value)
  return (
    <span className="filter">
      <label htmlFor={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => filters.set(name, event.target.value)}>
        <option value="">Any</option>
        {!isKnown && <option>{value}</option>}
        {values.map(([one, text]) => (
          <option key={one} value={one}>
            {text}
          </option>
        ))}
      </select>
    </span>
  )
}

/** Milliseconds after the last key until a text counts. */
const PAUSE = 350

export function TextFilter({ filters, name, label }: FieldProps) {
  const id = useId()
  const value = filters.values[name] ?? ""
  const { set } = filters
  const [text, setText] = useState(value)
  const [shown, setShown] = useState(value)
  if (shown !== value) {
    // the URL has changed otherwise
    setShown(value)
    if (text.trim() !== value) setText(value)
  }
  useEffect(() => {
    if (text.trim() === value) return
    const timer = setTimeout(() => set(name, text.trim()), PAUSE)
    return () => clearTimeout(timer)
  }, [text, value, name, set])
  return (
    <span className="filter">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        type="search"
        dir="auto"
        autoComplete="off"
        spellCheck={false}
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
    </span>
  )
}
