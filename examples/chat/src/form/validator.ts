/**
 * The validator that @rjsf asks, over @cfworker/json-schema, which interprets a schema. The usual one (Ajv) writes
 * code and evaluates it, and the page's policy forbids that. The server validates again, and has the last word.
 */
import { type OutputUnit, Validator } from "@cfworker/json-schema"
import {
  type RJSFSchema,
  type RJSFValidationError,
  toErrorSchema,
  type ValidationData,
  type ValidatorType,
} from "@rjsf/utils"

// biome-ignore lint/suspicious/noExplicitAny: rjsf's own default, a form of whatever the schema says
type Any = any

/** They only say that something below them is wrong, which has its own entry. */
const OUTER = ["properties", "items", "prefixItems", "$ref", "allOf", "dependentSchemas"]

function problems(schema: RJSFSchema, data: unknown): RJSFValidationError[] {
  const { errors } = new Validator(schema as object, "2020-12", false).validate(json(data))
  return errors.filter((unit) => !OUTER.includes(unit.keyword)).map(toProblem)
}

function toProblem({ keyword, instanceLocation, error }: OutputUnit): RJSFValidationError {
  const path = instanceLocation.split("/").slice(1).map(decoded)
  const missing = keyword === "required" ? /"(.*)"/.exec(error)?.[1] : undefined
  if (missing) path.push(missing)
  const message = missing ? "is required" : error
  return { name: keyword, message, property: `.${path.join(".")}`, stack: message, params: {} }
}

/** A part of a JSON Pointer in a URI fragment. */
function decoded(part: string): string {
  return decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")
}

function json(data: unknown): unknown {
  return data === undefined ? null : JSON.parse(JSON.stringify(data))
}

export const validator: ValidatorType = {
  validateFormData(data: Any, schema: RJSFSchema): ValidationData<Any> {
    try {
      const errors = problems(schema, data)
      return { errors, errorSchema: toErrorSchema(errors) }
    } catch {
      return { errors: [], errorSchema: {} } // a pattern that only the server's language knows, for one
    }
  },
  isValid(schema: RJSFSchema, data: Any, root: RJSFSchema): boolean {
    try {
      const { $defs = {}, definitions = {} } = root
      return problems({ $defs, definitions, ...schema }, data).length === 0
    } catch {
      return false
    }
  },
  rawValidation<Result = Any>(schema: RJSFSchema, data?: Any) {
    return { errors: problems(schema, data) as Result[] }
  },
}
