/** Explains errors to people who did not build the server. */
import type { AgentKitError } from "@agentkit/react"

const TEXTS: Record<string, string> = {
  unreachable: "The server does not answer.",
  not_agentkit: "Something other than agentkit answered.",
  decision_conflict: "Somebody else has answered this already, and differently.",
  decision_expired: "The time for this answer is over.",
  decision_not_found: "Nobody waits for this answer any more.",
  run_not_paused: "Nobody waits for this answer any more.",
  run_active: "A run is going on already.",
  no_run: "No run is going on any more.",
  client_error: "An error in this page.",
  run_not_found: "There is no such run (any more).",
  decision_invalid: "The answer is not complete yet.",
  input_invalid: "The changed input does not fit the tool.",
  store_unavailable: "The server cannot reach its store at the moment.",
  unauthenticated: "You are not logged in (any more).",
  expired: "Nobody answered in time, so the run has ended.",
  limit_turns: "The run reached its limit of turns.",
  limit_tokens: "The run reached its limit of tokens.",
  limit_cost: "The run reached its limit of cost.",
  limit_time: "The run reached its limit of time.",
}

export function explain(error: AgentKitError): string {
  const explanation = TEXTS[error.code]
  if (error.errors.length) {
    const problems = error.errors.map(({ path, message }) => `${path.slice(1) || "the answer"} ${message}`)
    return `${explanation ?? error.message} ${problems.join("; ")}.`
  }
  return explanation ?? (error.status ? error.message : `The run failed: ${error.message}`) // a run's own error has no status
}
