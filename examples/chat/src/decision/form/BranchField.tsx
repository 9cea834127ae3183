/** One of several schemas, and the fields of the one that a person has chosen. */
import { useEffect, useRef } from "react"
import { MOST_RADIOS, Radios } from "./ChoiceField"
import { Field, type KindProps } from "./Field"
import { branchLabel, branchSchema } from "./schema"
import { useFormStore } from "./store"
import { isValid } from "./validator"

export function BranchField(props: KindProps) {
  const { node, id, path, name, value, onChange, label, help, problem, aria } = props
  const { root, choices, choose } = useFormStore()
  const chosen = node.branches.findIndex(({ at }) => at === choices[path])
  const labels = node.branches.map((branch) => branchLabel(root, branch))
  const first = useRef({ value, branches: node.branches })
  useEffect(() => {
    // A value that is there already has made the choice.
    const { value, branches } = first.current
    const branch = value !== undefined && branches.find(({ schema }) => isValid(root, schema, value))
    if (branch) choose(path, branch.at)
  }, [root, path, choose])
  const pick = (index: number) => {
    choose(path, node.branches[index]?.at)
    onChange(undefined)
  }
  const branch = node.branches[chosen]
  return (
    <>
      {labels.length > MOST_RADIOS ? (
        <>
          <label htmlFor={id}>{label}</label>
          {help}
          <select id={id} value={chosen} onChange={(event) => pick(Number(event.target.value))} {...aria}>
            <option value={-1}>Choose …</option>
            {labels.map((text, at) => (
              <option key={text} value={at}>
                {text}
              </option>
            ))}
          </select>
          {problem}
        </>
      ) : (
        <Radios {...props} labels={labels} chosen={chosen} onChoose={pick} />
      )}
      {branch && (
        <Field
          key={chosen}
          schema={{ title: labels[chosen], ...branchSchema(root, node, branch) }}
          path={path}
          name={name}
          isRequired
          isBranch
          value={value}
          onChange={onChange}
        />
      )}
    </>
  )
}
