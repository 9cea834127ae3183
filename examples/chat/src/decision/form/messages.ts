/** Says what is wrong with a value in the words of the person who gives it, by the keyword of the schema. */

/** Explains an error of @cfworker/json-schema, whose text ends with the keyword's limit where it has one. */
export function explain(keyword: string, error: string): string {
  const limit = /(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\D*$/.exec(error)?.[1] ?? ""
  return MESSAGES[keyword]?.(limit, error) ?? error
}

const MESSAGES: Record<string, (limit: string, error: string) => string> = {
  type: (_, error) => `must be ${namesOf(/Expected (.*)\.$/.exec(error)?.[1] ?? "")}`,
  const: (_, error) => `must be ${/match (.*)\.$/.exec(error)?.[1]}`,
  enum: () => "must be one of the choices",
  false: () => "is not allowed",
  not: () => "is not allowed",
  minLength: (limit) => `needs at least ${limit} characters`,
  maxLength: (limit) => `may have at most ${limit} characters`,
  pattern: () => "does not have the form that is asked for",
  minimum: (limit) => `must be at least ${limit}`,
  maximum: (limit) => `must be at most ${limit}`,
  exclusiveMinimum: (limit) => `must be more than ${limit}`,
  exclusiveMaximum: (limit) => `must be less than ${limit}`,
  multipleOf: (limit) => `must be a multiple of ${limit}`,
  minItems: (limit) => `needs at least ${limit} items`,
  maxItems: (limit) => `may have at most ${limit} items`,
  uniqueItems: () => "may not have an item twice",
  minProperties: (limit) => `needs at least ${limit} fields`,
  maxProperties: (limit) => `may have at most ${limit} fields`,
}

const NAMES: Record<string, string> = {
  integer: "a whole number",
  number: "a number",
  string: "a text",
  boolean: "true or false",
  object: "a JSON object",
  array: "a JSON list",
  null: "empty",
}

/** The types of a schema, which come as `"integer", "null"`. */
function namesOf(types: string): string {
  const names = types.replaceAll('"', "").split(", ")
  return names.map((name) => NAMES[name] ?? name).join(" or ")
}
