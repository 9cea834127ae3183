/** Puts a JSON Schema together from its parts: references, and what all of which must hold. */

export type Schema = Record<string, unknown>

/** References that are followed one after another; more are a loop. */
const MOST_REFERENCES = 50

/** Follows references, and puts the parts of `allOf` together. */
export function merged(root: Schema, schema: unknown): Schema {
  let result = asSchema(schema)
  for (let left = MOST_REFERENCES; left > 0 && ("$ref" in result || "allOf" in result); left -= 1) {
    const { $ref, allOf, ...rest } = result
    const parts = Array.isArray(allOf) ? allOf : []
    const target = $ref === undefined ? [] : [referenced(root, $ref)]
    result = [...target, ...parts].map(asSchema).reduceRight(both, rest)
  }
  return result
}

/** Of two schemas that both hold, the first wins where both say something. */
export function both(one: Schema, other: Schema): Schema {
  const properties = { ...asSchema(other.properties), ...asSchema(one.properties) }
  const required = [...new Set([...texts(other.required), ...texts(one.required)])]
  return {
    ...other,
    ...one,
    ...(Object.keys(properties).length && { properties }),
    ...(required.length && { required }),
  }
}

/** Returns what a `$ref` names; undefined where that is elsewhere, or nowhere. */
export function referenced(root: Schema, ref: unknown): unknown {
  if (typeof ref !== "string" || !ref.startsWith("#")) return undefined
  let node: unknown = root
  for (const part of ref.split("/").slice(1)) {
    node = (node as Schema | undefined)?.[part.replaceAll("~1", "/").replaceAll("~0", "~")]
  }
  return node
}

export function asSchema(value: unknown): Schema {
  return isSchema(value) ? value : {}
}

export function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}

export function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === "string") : []
}
