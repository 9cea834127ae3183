/**
 * The validator that @rjsf asks, over @cfworker/json-schema, which interprets a schema. The usual one (Ajv)
 * generates code and evaluates it, which the page's policy forbids. The server validates again, and decides.
 */
import { type OutputUnit, Validator } from "@cfworker/json-schema"
import {
  type RJSFSchema,
  type RJSFValidationError,
  toErrorSchema,
  type ValidationData,
  type ValidatorType,
} from "@rjsf/utils"
import { hasCheapPatterns } from "./bounded"

// biome-ignore lint/suspicious/noExplicitAny: rjsf's default, for a form of any schema
type Any = any

/** Keywords whose errors only say that something below is wrong, which has an entry of its own. */
const OUTER = ["properties", "items", "prefixItems", "$ref", "allOf", "dependentSchemas"]

function problems(schema: RJSFSchema, data: unknown): RJSFValidationError[] {
  if (!hasCheapPatterns(schema, data)) throw new Error("the server checks this")
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
      // For instance a pattern that only the server's regex dialect has, or one that may take long.
      return { errors: [], errorSchema: {} }
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
