/**
 * Whether the browser can afford a schema. A schema is code of somebody else's, run in the tab that shows it: a pattern may
 * backtrack for years, and references may double at each level. What is not certain to be cheap is left to the server,
 * which checks every answer within bounds and says what is wrong.
 */

/** Nodes of a schema with its references written out. */
const MOST_NODES = 5_000
/** Steps that a pattern may take on one text, estimated. */
const MOST_STEPS = 1e7

import { referenced } from "./merge"

type Node = Record<string, unknown>

/** Whether a schema, with its references written out, is small enough for a form. A recursion counts once. */
export function isSmall(schema: object): boolean {
  let nodes = 0
  const open = new Set<unknown>()
  const visit = (node: unknown): boolean => {
    if (typeof node !== "object" || node === null) return true
    nodes += 1
    if (nodes > MOST_NODES) return false
    const target = referenced(schema as Node, (node as Node).$ref)
    if (target !== undefined && !open.has(target)) {
      open.add(target)
      if (!visit(target)) return false
      open.delete(target)
    }
    return Object.entries(node).every(
      ([key, value]) => key === "$defs" || key === "definitions" || visit(value),
    )
  }
  return visit(schema)
}

/** Whether all patterns of a schema are cheap on the texts of a value. */
export function hasCheapPatterns(schema: unknown, value: unknown): boolean {
  const length = longestText(value)
  return patternsOf(schema).every((pattern) => steps(pattern, length) <= MOST_STEPS)
}

function patternsOf(node: unknown): string[] {
  if (typeof node !== "object" || node === null) return []
  const { pattern, patternProperties } = node as Node
  const found = typeof pattern === "string" ? [pattern] : []
  if (typeof patternProperties === "object" && patternProperties !== null)
    found.push(...Object.keys(patternProperties))
  return found.concat(...Object.values(node).map(patternsOf))
}

function longestText(value: unknown): number {
  if (typeof value === "string") return value.length
  if (typeof value !== "object" || value === null) return 0
  return Object.entries(value).reduce((most, [key, item]) => Math.max(most, key.length, longestText(item)), 0)
}

/** The parts of a pattern: escapes, sets, the beginnings and ends of groups, choices, quantifiers, characters. */
const PART = /\\.|\[(?:\\.|[^\]\\])*\]|\(\?:|\(\?|[()|]|[*+?]|\{\d+(?:,\d*)?\}|[\s\S]/gu

/**
 * An upper estimate of the steps of a search: each way to repeat a character multiplies them by the text's length, each
 * choice by two. Repeated groups, and what only some engines have, may take any number.
 */
function steps(pattern: string, length: number): number {
  const size = Math.max(length, 1)
  let cost = pattern.startsWith("^") ? 1 : size
  let last = ""
  for (const [part] of pattern.matchAll(PART)) {
    const isQuantifier = /^(?:[*+?]|\{\d)/.test(part) && part !== "(?"
    if (part === "(?" || /^\\[1-9k]/.test(part)) return Number.POSITIVE_INFINITY
    if (part === "|" || part === "?") cost *= 2
    else if (isQuantifier && last === ")") return Number.POSITIVE_INFINITY
    else if (isQuantifier && !/^\{\d+\}$/.test(part)) cost *= size
    last = part
  }
  return cost * pattern.length
}
