/** One of several values. None is chosen until a person chooses. */
import type { KindProps } from "./Field"

/** More choices than these are in a list that opens. */
export const MOST_RADIOS = 5

export function ChoiceField(props: KindProps) {
  const { node, id, value, onChange, isRequired, label, help, problem, aria } = props
  const chosen = value === undefined ? -1 : node.options.findIndex((option) => isSame(option.value, value))
  const choose = (at: number) => onChange(node.options[at]?.value)
  if (node.options.length > MOST_RADIOS) {
    return (
      <>
        <label htmlFor={id}>{label}</label>
        {help}
        <select id={id} value={chosen} onChange={(event) => choose(Number(event.target.value))} {...aria}>
          <option value={-1}>{isRequired ? "Choose …" : "No choice"}</option>
          {node.options.map((option, at) => (
            <option key={option.label} value={at}>
              {option.label}
            </option>
          ))}
        </select>
        {problem}
      </>
    )
  }
  return (
    <Radios
      {...props}
      labels={node.options.map((option) => option.label)}
      chosen={chosen}
      onChoose={choose}
    />
  )
}

interface RadiosProps extends KindProps {
  labels: string[]
  /** The index of the chosen one, or -1. */
  chosen: number
  onChoose: (index: number) => void
}

export function Radios({
  id,
  labels,
  chosen,
  onChoose,
  isRequired,
  label,
  help,
  problem,
  aria,
}: RadiosProps) {
  return (
    <div role="radiogroup" aria-labelledby={`${id}-label`} {...aria}>
      <span className="label" id={`${id}-label`}>
        {label}
      </span>
      {help}
      <div className="radios">
        {labels.map((text, at) => (
          <label key={text}>
            <input type="radio" name={id} checked={at === chosen} onChange={() => onChoose(at)} />
            {text}
          </label>
        ))}
        {!isRequired && chosen >= 0 && (
          <button type="button" className="add" onClick={() => onChoose(-1)}>
            No choice
          </button>
        )}
      </div>
      {problem}
    </div>
  )
}

function isSame(one: unknown, other: unknown): boolean {
  return one === other || JSON.stringify(one) === JSON.stringify(other)
}
