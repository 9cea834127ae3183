/** One place of a value: the field that its schema asks for, with its label, its explanation and what is wrong. */
import { type ReactNode, useState } from "react"
import { BranchField } from "./BranchField"
import { ChoiceField } from "./ChoiceField"
import { ListField } from "./ListField"
import { ObjectField } from "./ObjectField"
import { MOST_LEVELS, type Node, nodeOf } from "./schema"
import { useFormStore } from "./store"
import { JsonField, NumberField, TextField } from "./TextFields"

export interface FieldProps {
  schema: unknown
  /** A JSON Pointer. */
  path: string
  /** What it is called where the schema gives no title. */
  name: string
  isRequired: boolean
  value: unknown
  onChange: (value: unknown) => void
  /** It is a branch that was chosen, at the same place as the choice. */
  isBranch?: boolean
}

/** What the fields of all kinds get. */
export interface KindProps extends FieldProps {
  node: Node
  /** Of the element that has the value. */
  id: string
  label: ReactNode
  help: ReactNode
  problem: ReactNode
  /** For the element that has the value: its state, and by whom it is explained. */
  aria: { "aria-invalid": boolean; "aria-describedby": string | undefined; "aria-required": boolean }
}

const KINDS = {
  object: ObjectField,
  list: ListField,
  branch: BranchField,
  choice: ChoiceField,
  fixed: FixedField,
  text: TextField,
  number: NumberField,
  json: JsonField,
}

export function Field(props: FieldProps) {
  const { schema, path, name, isRequired, value, onChange, isBranch } = props
  const { root, id: form, problems, choices } = useFormStore()
  const [isWanted, setWanted] = useState(false)
  const node = nodeOf(root, schema, value)
  const id = `${form}${path.replaceAll("/", "-")}${isBranch ? "-chosen" : ""}`
  const isChosen = node.kind === "branch" && choices[path] !== undefined // the problem is that of the branch
  const problem = isChosen ? undefined : problems.get(path)
  const title = typeof node.schema.title === "string" ? node.schema.title : name
  const isGroup = node.kind === "object" || node.kind === "list" || node.kind === "branch"
  if (isGroup && !isRequired && value === undefined && !isWanted && problem === undefined) {
    return (
      <button type="button" className="add" onClick={() => setWanted(true)}>
        + {title}
      </button>
    )
  }
  const description = typeof node.schema.description === "string" ? node.schema.description : ""
  const describedBy = [description && `${id}-help`, problem && `${id}-problem`].filter(Boolean).join(" ")
  const isDeep = path.split("/").length > MOST_LEVELS
  const Kind = KINDS[isDeep && isGroup ? "json" : node.kind]
  return (
    <div className={`field ${node.kind}`} data-path={path}>
      <Kind
        {...props}
        node={node}
        id={id}
        label={
          <>
            {title}
            {!isRequired && title && <span className="optional"> (optional)</span>}
          </>
        }
        help={
          description && (
            <p className="help" id={`${id}-help`}>
              {description}
            </p>
          )
        }
        problem={
          problem !== undefined && (
            <p className="problem" id={`${id}-problem`}>
              {problem}
            </p>
          )
        }
        aria={{
          "aria-invalid": problem !== undefined,
          "aria-describedby": describedBy || undefined,
          "aria-required": isRequired,
        }}
      />
      {isGroup && !isRequired && (
        <button
          type="button"
          className="add"
          onClick={() => {
            setWanted(false)
            onChange(undefined)
          }}
        >
          Leave out {title}
        </button>
      )}
    </div>
  )
}

/** A value to which there is no alternative. */
function FixedField({ node, label, help, problem }: KindProps) {
  return (
    <>
      <span className="label">{label}</span>
      {help}
      <output>{node.options[0]?.label}</output>
      {problem}
    </>
  )
}
