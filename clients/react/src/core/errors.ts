/**
 * The one error of this package. It knows the protocol's problem documents, and makes no requests.
 */
import type { SchemaProblem } from "./wire"

export type { SchemaProblem }

export interface ErrorDetails {
  status?: number
  errors?: readonly SchemaProblem[]
  retryAfter?: number | undefined
  cause?: unknown
}

/**
 * What went wrong, by `code`: the protocol's codes of HTTP errors and of failed runs, and
 * `unreachable` (no answer), `not_agentkit` (an answer that is not the protocol's), `run_active` and
 * `no_run` (refused here, nothing was sent), `client_error` (an option of yours threw).
 */
export class AgentKitError extends Error {
  override readonly name = "AgentKitError"
  /** The HTTP status; 0 where there was none. */
  declare readonly status: number
  declare readonly code: string
  declare readonly errors: readonly SchemaProblem[]
  /** Milliseconds, where the server asked for them. */
  declare readonly retryAfter: number | undefined

  constructor(code: string, message: string, more: ErrorDetails = {}) {
    super(message, more)
    Object.assign(this, { code, status: 0, errors: [], ...more })
  }

  /**
   * The same request may succeed later: the server is unavailable for a while, or a run to start from has still to end,
   * as one does that was just aborted.
   */
  get isTemporary(): boolean {
    return ["unreachable", "run_not_terminal"].includes(this.code) || this.status === 429 || this.status > 501
  }
}

/** Makes the error of a response that is not a success, of the server or of a proxy before it. */
export async function errorOf(response: Response): Promise<AgentKitError> {
  const { status } = response
  const retryAfter = Number(response.headers.get("Retry-After")) * 1000 || undefined // its other form, a date, is ignored
  try {
    const { code, detail, title, errors = [] } = await response.json()
    if (typeof code === "string") {
      return new AgentKitError(code, detail || title || code, { status, errors, retryAfter })
    }
  } catch {
    // no problem document: handled below
  }
  return notAgentKit({ status, retryAfter })
}

/** Makes an AgentKitError of whatever was thrown: anything else comes from an option of the page. */
export function toAgentKitError(error: unknown): AgentKitError {
  return error instanceof AgentKitError
    ? error
    : new AgentKitError("client_error", textOf(error), { cause: error })
}

export function textOf(error: unknown): string {
  return (error as Error | undefined)?.message ?? String(error)
}

/** No answer came, or not all of it. */
export function unreachable(cause: unknown): AgentKitError {
  return new AgentKitError("unreachable", "no answer", { cause })
}

/** The answer does not follow the protocol. */
export function notAgentKit(more: ErrorDetails): AgentKitError {
  return new AgentKitError("not_agentkit", "not an agentkit server", more)
}
