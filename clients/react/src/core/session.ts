/**
 * One run as a chat knows it: from before it has an id to its end. It holds state and makes no requests: where a
 * response comes for an old session, the chat only has to check whether the session is the current one.
 */
import { randomKey } from "./client"
import { AgentKitError } from "./errors"
import { abortedState, conversation, EMPTY, fold, isTerminal, type RunState, stateOf } from "./fold"
import type { AgentEvent, Message, PendingItem, Run } from "./types"

export class Session {
  /** The Idempotency-Key of the start: however often that is sent, one run begins. */
  readonly key = randomKey()
  /** Aborts when this chat is done with the run. */
  readonly lifetime = new AbortController()
  runId: string | undefined
  /** For a run that is started here: resolves when the server has answered. Unless it refused, `runId` is set then. */
  started: Promise<void> | undefined
  /** Aborts the current reading of events. */
  reading: AbortController | undefined
  reconnecting = false
  /** The chat is done with the run, wherever it stands. */
  stopped = false
  /** The server refused to start or to show this run. */
  error: AgentKitError | undefined
  /** Why the run failed. Always the same object, so that it is reported once. */
  failure: AgentKitError | undefined

  /** Decision ids that were answered here. An answer is final, whatever older events are still to be read. */
  readonly answered = new Set<string>()

  #state: RunState
  /** The state that GET returned: it is shown while the log is replayed up to it. */
  #loaded: RunState | undefined

  constructor(history: readonly Message[], runId?: string) {
    this.#state = { ...EMPTY, ...conversation(history) }
    this.runId = runId
  }

  /** The state to be shown. */
  get view(): RunState {
    return this.#loaded ?? this.#state
  }

  get seq(): number {
    return this.#state.seq
  }

  get ended(): boolean {
    return isTerminal(this.view.status)
  }

  /** A run is going on, or about to begin. */
  get isBusy(): boolean {
    return !this.ended && !this.error && !!(this.runId || this.started)
  }

  /** Pending items, without those that were answered here and whose resolution is still to be read. */
  get pending(): readonly PendingItem[] {
    const { pending } = this.view
    const open = pending.filter((item) => !this.answered.has(item.decisionId))
    return open.length === pending.length ? pending : open
  }

  /** Takes over a run from GET. One that has ended is complete; for another the log is replayed from its start. */
  join(run: Run): void {
    const state = stateOf(run)
    if (isTerminal(state.status)) this.#replace(state)
    else this.#loaded = state
  }

  /** Folds events; returns those that are new to the page. */
  apply(events: readonly AgentEvent[]): readonly AgentEvent[] {
    const knownSeq = this.#loaded?.seq ?? 0
    this.#replace(events.reduce(fold, this.#state))
    if (this.#state.seq >= knownSeq) this.#loaded = undefined
    return knownSeq ? events.filter((event) => event.type !== "stream_reset" && event.seq > knownSeq) : events
  }

  /** Ends all requests for the run; with `showAborted` its state becomes aborted. */
  stop(showAborted: boolean): void {
    if (showAborted) {
      this.#state = abortedState(this.view)
      this.#loaded = undefined
    }
    this.stopped = true
    this.reading?.abort()
    this.lifetime.abort()
  }

  #replace(state: RunState): void {
    this.#state = state
    const { status, error } = state
    // An abort is a result and not an error; an expired item is one.
    if (error && (status === "failed" || error.code === "expired")) {
      this.failure ??= new AgentKitError(error.code, error.message)
    }
    if (isTerminal(status)) this.lifetime.abort()
  }
}
