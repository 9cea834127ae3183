/** Decisions that are a yes or a no: those whose schema has one boolean, and nothing else that must be chosen. */
import { asSchema, merged, type Schema, texts } from "./form/merge"

export interface YesNo {
  /** The field that holds the answer; undefined where the answer is the boolean itself. */
  name: string | undefined
  /** What the field asks, in its own words. */
  question: string
  /** The answers that the schema takes. */
  answers: readonly boolean[]
  /** The other fields; undefined where there are none. */
  rest: Schema | undefined
}

/** Names of a boolean beside other fields that says whether the call may be executed. */
const CONSENTS =
  /^(?:is_?)?(?:approved?|approve_?it|accept(?:ed)?|agreed?|allow(?:ed)?|confirm(?:ed)?|consent|go_?ahead|granted?|ok(?:ay)?|permit(?:ted)?|proceed|yes)$/i
/** Keywords by which a schema depends on more than its fields. */
const COMPOSED = ["oneOf", "anyOf", "if", "not", "dependentSchemas", "dependentRequired", "patternProperties"]

export function yesNoOf(schema: Schema): YesNo | undefined {
  const whole = merged(schema, schema)
  if (whole.type === "boolean") {
    return { name: undefined, question: textOf(whole), answers: answersOf(whole), rest: undefined }
  }
  if (COMPOSED.some((key) => key in whole)) return undefined
  const fields = Object.entries(asSchema(whole.properties))
  const booleans = fields.filter(([, field]) => merged(schema, field).type === "boolean")
  const [name, field] = booleans.find(([name]) => CONSENTS.test(name)) ?? booleans[0] ?? []
  if (name === undefined || (fields.length > 1 && (booleans.length > 1 || !CONSENTS.test(name))))
    return undefined
  const properties = Object.fromEntries(fields.filter(([one]) => one !== name))
  const required = texts(whole.required).filter((one) => one !== name)
  const { $defs, definitions } = schema
  const rest = { ...whole, $defs, definitions, properties, required }
  const boolean = merged(schema, field)
  return {
    name,
    question: textOf(boolean),
    answers: answersOf(boolean),
    rest: fields.length > 1 ? (JSON.parse(JSON.stringify(rest)) as Schema) : undefined,
  }
}

/** Returns the decision. `others`: the values of the other fields. */
export function decisionOf({ name }: YesNo, answer: boolean, others: unknown): unknown {
  return name === undefined ? answer : { ...asSchema(others), [name]: answer }
}

/** What a decision says, in a word or two. */
export function verdictOf(decision: unknown): string {
  if (decision === undefined) return "decided"
  if (typeof decision === "boolean") return decision ? "approved" : "declined"
  const fields = Object.entries(asSchema(decision))
  const booleans = fields.filter(([, value]) => typeof value === "boolean")
  const [, value] =
    booleans.find(([name]) => CONSENTS.test(name)) ??
    (booleans.length === 1 && fields.length === 1 ? (booleans[0] ?? []) : [])
  if (value === undefined) return "decided"
  return value ? "approved" : "declined"
}

function answersOf(schema: Schema): readonly boolean[] {
  const allowed =
    "const" in schema ? [schema.const] : Array.isArray(schema.enum) ? schema.enum : [true, false]
  return [true, false].filter((answer) => allowed.includes(answer))
}

function textOf({ description, title }: Schema): string {
  return [title, description].filter((text) => typeof text === "string").join(": ")
}
