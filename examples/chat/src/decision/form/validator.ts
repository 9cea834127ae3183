/**
 * Checks a value by @cfworker/json-schema, which interprets a schema: the page's policy forbids to evaluate code. It says
 * only what a person can act on; the server checks again, and decides.
 */
import { type OutputUnit, type Schema as Rules, Validator } from "@cfworker/json-schema"
import { hasCheapPatterns } from "./bounded"
import type { Schema } from "./merge"
import { explain } from "./messages"
import type { Choices } from "./schema"

/** What is wrong at one place, named by its JSON Pointer. */
export interface Problem {
  path: string
  message: string
}

/** Keywords whose errors only say that something below is wrong, which has an entry of its own. */
const OUTER = [
  "properties",
  "items",
  "prefixItems",
  "$ref",
  "allOf",
  "if",
  "dependentSchemas",
  "additionalProperties",
]

/** Returns what is wrong with a value; of several branches, as far as the one that was chosen says so. */
export function problemsOf(schema: Schema, value: unknown, choices: Choices): Problem[] {
  try {
    return refined(validate(schema, value), value, choices)
  } catch {
    return [] // a pattern that only the server's regex dialect has, or one that may take long
  }
}

/** Whether a value satisfies a part of a schema. */
export function isValid(root: Schema, part: unknown, value: unknown): boolean {
  try {
    const { $defs = {}, definitions = {} } = root
    return validate({ $defs, definitions, allOf: [part] }, value).length === 0
  } catch {
    return false
  }
}

function validate(schema: Schema, value: unknown): OutputUnit[] {
  if (!hasCheapPatterns(schema, value)) throw new Error("the server checks this")
  const json = value === undefined ? null : JSON.parse(JSON.stringify(value))
  return new Validator(schema as Rules, "2020-12", false).validate(json).errors
}

function refined(units: OutputUnit[], value: unknown, choices: Choices): Problem[] {
  const problems = new Map<string, Problem>()
  for (const unit of units) {
    // `format` only annotates, on the server too: a text that is unusual must not be refused here.
    if (OUTER.includes(unit.keyword) || unit.keyword === "format" || !isChosen(unit, units, choices)) continue
    const problem = toProblem(unit, choices)
    if (!problem || problems.has(problem.path)) continue
    const isMissing = problem.path && valueAt(value, problem.path) === undefined
    problems.set(problem.path, isMissing ? { ...problem, message: "is required" } : problem)
  }
  return [...problems.values()]
}

/** Whether an error lies in no branch, or in the chosen ones. */
function isChosen(unit: OutputUnit, units: OutputUnit[], choices: Choices): boolean {
  for (const { 1: keyword, 2: branch, index } of unit.keywordLocation.matchAll(
    /(\/(?:oneOf|anyOf))\/(\d+)(?=\/)/g,
  )) {
    const branching = unit.keywordLocation.slice(0, index) + keyword
    const outer = units.find(
      ({ keywordLocation, instanceLocation }) =>
        keywordLocation === branching && `${unit.instanceLocation}/`.startsWith(`${instanceLocation}/`),
    )
    if (outer && choices[pointerOf(outer.instanceLocation)] !== Number(branch)) return false
  }
  return true
}

function toProblem({ keyword, instanceLocation, error }: OutputUnit, choices: Choices): Problem | undefined {
  const path = pointerOf(instanceLocation)
  if (keyword === "oneOf" || keyword === "anyOf") {
    if (choices[path] === undefined) return { path, message: "needs a choice" }
    const isAmbiguous = /\(([2-9]|\d\d+) matches\)/.test(error)
    return isAmbiguous ? { path, message: "fits more than one of the choices" } : undefined
  }
  const missing = /"(.*)"/.exec(error)?.[1] ?? ""
  if (keyword === "required") return { path: `${path}/${escaped(missing)}`, message: "is required" }
  return { path, message: explain(keyword, error) }
}

/** The JSON Pointer of one in a URI fragment. */
function pointerOf(location: string): string {
  return decodeURIComponent(location.replace(/^#/, ""))
}

/** Returns what is at a JSON Pointer; undefined where there is nothing. */
function valueAt(value: unknown, path: string): unknown {
  let inner = value
  for (const part of path.split("/").slice(1)) {
    inner = (inner as Schema | null | undefined)?.[part.replaceAll("~1", "/").replaceAll("~0", "~")]
  }
  return inner
}

function escaped(part: string): string {
  return part.replaceAll("~", "~0").replaceAll("/", "~1")
}
