/**
 * What a JSON Schema asks a person for: which field stands at which place of a value. It knows nothing of elements.
 *
 * A schema may be anything. What has no field of its own here is asked for as JSON, so that every answer can be given.
 */
import { asSchema, both, isSchema, merged, type Schema, texts } from "./merge"
import { isValid } from "./validator"

export type Kind =
  | "object" // named fields
  | "list" // items, those of `prefixItems` first
  | "branch" // one of several schemas
  | "choice" // one of several values
  | "fixed" // the only value that there is
  | "text"
  | "number"
  | "json" // anything else

export interface Option {
  label: string
  value: unknown
}

export interface Node {
  kind: Kind
  /** Without references, and with everything that holds for the value as it is. */
  schema: Schema
  /** null is allowed beside the rest. */
  isNullable: boolean
  /** Of a choice. */
  options: Option[]
  /** Of branches: the schemas, and where each stands in `oneOf` or `anyOf`. */
  branches: Branch[]
  /** The only branch beside null, where `anyOf` or `oneOf` means no more than that. */
  only: number | undefined
}

export interface Branch {
  schema: Schema
  at: number
}

/** Fields within fields; a schema that needs more needs itself without end. */
export const MOST_LEVELS = 12

/** Returns what is asked for at one place. `value`: what is there now, on which conditions of the schema depend. */
export function nodeOf(root: Schema, schema: unknown, value: unknown): Node {
  const whole = conditional(root, merged(root, schema), value)
  const { rest, isNullable, places } = withoutNull(root, whole)
  const options = optionsOf(root, rest)
  const parts = options.length ? [] : partsOf(rest)
  const branches = parts.map((part, at) => ({ schema: part, at: places?.[at] ?? at }))
  const only = places?.length === 1 ? places[0] : undefined
  return { kind: kindOf(rest, options, branches), schema: rest, isNullable, options, branches, only }
}

/** Adds what holds only for a value such as this one: `then` or `else`, and `dependentSchemas`. */
function conditional(root: Schema, schema: Schema, value: unknown): Schema {
  const { if: condition, then: yes, else: no, dependentSchemas, ...rest } = schema
  let result = rest
  if (condition !== undefined) {
    const part = isValid(root, condition, value ?? {}) ? yes : no
    if (part !== undefined) result = both(result, merged(root, part))
  }
  for (const [name, part] of Object.entries(asSchema(dependentSchemas))) {
    if (asSchema(value)[name] !== undefined) result = both(result, merged(root, part))
  }
  return result
}

/** Takes null out of `type` and of `anyOf` or `oneOf`, which then has one schema less. */
function withoutNull(root: Schema, schema: Schema): { rest: Schema; isNullable: boolean; places?: number[] } {
  const { type } = schema
  if (Array.isArray(type) && type.includes("null")) {
    const types = type.filter((one) => one !== "null")
    return { rest: { ...schema, type: types.length === 1 ? types[0] : types }, isNullable: true }
  }
  for (const key of ["anyOf", "oneOf"]) {
    const parts = schema[key]
    if (!Array.isArray(parts)) continue
    const places = parts.flatMap((part, at) => (asSchema(part).type === "null" ? [] : [at]))
    if (places.length === parts.length) continue
    const { [key]: _, ...rest } = schema
    const others = places.map((at) => parts[at])
    const part = others.length === 1 ? merged(root, others[0]) : { [key]: others }
    return { rest: both(rest, part), isNullable: true, places }
  }
  return { rest: schema, isNullable: false }
}

function optionsOf(root: Schema, schema: Schema): Option[] {
  if ("const" in schema) return [{ label: labelOf(schema.const, schema.title), value: schema.const }]
  if (Array.isArray(schema.enum)) return schema.enum.map((value) => ({ label: labelOf(value), value }))
  if (schema.type === "boolean") {
    return [
      { label: "Yes", value: true },
      { label: "No", value: false },
    ]
  }
  const parts = partsOf(schema).map((part) => merged(root, part))
  if (!parts.length || !parts.every((part) => "const" in part)) return []
  return parts.map((part) => ({ label: labelOf(part.const, part.title), value: part.const }))
}

function partsOf(schema: Schema): Schema[] {
  const parts = schema.oneOf ?? schema.anyOf
  return Array.isArray(parts) ? parts.map(asSchema) : []
}

function kindOf(schema: Schema, options: Option[], branches: Branch[]): Kind {
  if (options.length) return options.length > 1 ? "choice" : "fixed"
  if (branches.length > 1) return "branch"
  const hasFields = Object.keys(asSchema(schema.properties)).length > 0
  if (hasFields && (schema.type === "object" || schema.type === undefined)) return "object"
  const isList = schema.type === "array" && (isSchema(schema.items) || Array.isArray(schema.prefixItems))
  if (isList) return "list"
  if (schema.type === "string") return "text"
  return schema.type === "number" || schema.type === "integer" ? "number" : "json"
}

/** What a branch is called: by its title, or by the one value that tells it from others. */
export function branchLabel(root: Schema, branch: Branch): string {
  const schema = merged(root, branch.schema)
  if (typeof schema.title === "string") return schema.title
  for (const property of Object.values(asSchema(schema.properties))) {
    const { const: value } = merged(root, property)
    if (typeof value === "string") return value
  }
  return typeof schema.type === "string" ? schema.type : `Option ${branch.at + 1}`
}

/** The schemas of the items of a list: one for each of the first, and one for all others. */
export function itemsOf(schema: Schema): { first: unknown[]; others: unknown } {
  const first = Array.isArray(schema.prefixItems) ? schema.prefixItems : []
  return { first, others: schema.items ?? (first.length ? false : {}) }
}

/**
 * Adds to a value what needs no person: the only value of a required field, the null of one that may be empty, and
 * objects and lists around the fields.
 */
export function completed(
  root: Schema,
  value: unknown,
  choices: Choices,
): { value: unknown; choices: Choices } {
  const all = { ...choices }
  return { value: complete(root, root, value, true, all, ""), choices: all }
}

/** The branch that was chosen at each place, by its JSON Pointer. */
export type Choices = Readonly<Record<string, number>>

/** Notes in `choices` the branches to which there is no alternative but null. */
function complete(
  root: Schema,
  schema: unknown,
  value: unknown,
  isRequired: boolean,
  choices: Record<string, number>,
  path: string,
): unknown {
  if ((value === undefined && !isRequired) || path.split("/").length > MOST_LEVELS) return value
  const node = nodeOf(root, schema, value)
  if (node.only !== undefined) choices[path] ??= node.only
  if (node.kind === "branch") {
    const branch = node.branches.find(({ at }) => at === choices[path])
    if (branch) return complete(root, branchSchema(root, node, branch), value, true, choices, path)
  }
  if (node.kind === "fixed" && value === undefined) return node.options[0]?.value
  if (node.isNullable && value === undefined) return null
  if (node.kind === "object" && (value === undefined || isSchema(value))) {
    const entries = Object.entries(asSchema(node.schema.properties)).map(([name, property]) => {
      const isNeeded = texts(node.schema.required).includes(name)
      const field = asSchema(value)[name]
      return [name, complete(root, property, field, isNeeded, choices, pointer(path, name))] as const
    })
    return { ...asSchema(value), ...Object.fromEntries(entries.filter(([, field]) => field !== undefined)) }
  }
  if (node.kind === "list" && (value === undefined || Array.isArray(value))) {
    const { first, others } = itemsOf(node.schema)
    const items = Array.isArray(value) ? value : []
    const length = Math.max(items.length, isRequired ? first.length : 0)
    return Array.from({ length }, (_, at) =>
      complete(root, first[at] ?? others, items[at], true, choices, pointer(path, at)),
    )
  }
  return value
}

/** A branch, with what holds beside it. */
export function branchSchema(root: Schema, node: Node, branch: Branch): Schema {
  const { oneOf: _, anyOf: __, title: ___, description: ____, ...rest } = node.schema
  return both(merged(root, branch.schema), rest)
}

export function pointer(path: string, part: string | number): string {
  return `${path}/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`
}

function labelOf(value: unknown, title?: unknown): string {
  if (typeof title === "string") return title
  return typeof value === "string" ? value : JSON.stringify(value)
}
