/**
 * One run as a chat knows it: from before it has an id to its end. It holds state and makes no requests, so that
 * whatever an old session still hears of, the chat only has to ask whether the session is the current one.
 */
import { AgentKitError } from "./errors"
import { conversation, cutShort, EMPTY, fold, isTerminal, type RunState, stateOf } from "./fold"
import type { AgentEvent, Message, PendingItem, Run } from "./types"

export class Session {
  /** Of the POST that starts the run: however often it is sent, one run begins. */
  readonly key = randomKey()
  /** Aborts when this chat is done with the run. */
  readonly life = new AbortController()
  runId: string | undefined
  /** Of a run that is started here: when the server has answered. Unless it refused, `runId` is there then. */
  started: Promise<void> | undefined
  /** The present reading of events. */
  reading: AbortController | undefined
  reconnecting = false
  /** The chat is done with the run, wherever it stands. */
  stopped = false
  /** The server refused to start or to show this run. */
  lost: AgentKitError | undefined
  /** Why the run failed. One object, so that it is told once. */
  failure: AgentKitError | undefined

  /** Decision ids that were answered here. An answer is final, whatever older news the log has yet to tell. */
  readonly answered = new Set<string>()

  #state: RunState
  /** The snapshot that is shown while the log is replayed up to it. */
  #ahead: RunState | undefined

  constructor(history: readonly Message[], runId?: string) {
    this.#state = { ...EMPTY, ...conversation(history) }
    this.runId = runId
  }

  /** What is to be shown. */
  get view(): RunState {
    return this.#ahead ?? this.#state
  }

  get seq(): number {
    return this.#state.seq
  }

  get ended(): boolean {
    return isTerminal(this.view.status)
  }

  /** A run is going on, or about to begin. */
  get isBusy(): boolean {
    return !this.ended && !this.lost && !!(this.runId || this.started)
  }

  /** Pending items, without those that were answered here and whose resolution the log has yet to tell. */
  get pending(): readonly PendingItem[] {
    const { pending } = this.view
    const open = pending.filter((item) => !this.answered.has(item.decisionId))
    return open.length === pending.length ? pending : open
  }

  /** The run as GET told it. An ended one is complete; of another the log is to be replayed from its start. */
  join(run: Run): void {
    const state = stateOf(run)
    if (isTerminal(state.status)) this.#replace(state)
    else this.#ahead = state
  }

  /** Folds events; gives back those that are news. */
  take(events: readonly AgentEvent[]): readonly AgentEvent[] {
    const known = this.#ahead?.seq ?? 0
    this.#replace(events.reduce(fold, this.#state))
    if (this.#state.seq >= known) this.#ahead = undefined
    return known ? events.filter((event) => event.type !== "stream_reset" && event.seq > known) : events
  }

  /** Nothing of the run is wanted any more; with `cut` it is shown as aborted. */
  stop(cut: boolean): void {
    if (cut) {
      this.#state = cutShort(this.view)
      this.#ahead = undefined
    }
    this.stopped = true
    this.reading?.abort()
    this.life.abort()
  }

  #replace(state: RunState): void {
    this.#state = state
    const { status, error } = state
    // Aborting is a result and no error; that nobody answered in time is one.
    if (error && (status === "failed" || error.code === "expired")) {
      this.failure ??= new AgentKitError(error.code, error.message)
    }
    if (isTerminal(status)) this.life.abort()
  }
}

/** 128 random bits. `crypto.randomUUID` is missing on pages without TLS. */
function randomKey(): string {
  return crypto.getRandomValues(new Uint32Array(4)).join("-")
}
