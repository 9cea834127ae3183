/**
 * One run as a chat knows it: from before it has an id to its end. It holds state and makes no requests: where a
 * response comes for an old session, the chat only has to check whether the session is the current one.
 */
import { AgentKitError } from "./errors"
import { abortedState, conversation, EMPTY, fold, isTerminal, type RunState, stateOf } from "./fold"
import { Queue } from "./queue"
import type {
  AgentEvent,
  ConversationRun,
  Message,
  PendingItem,
  Run,
  RunOrigin,
  UserContent,
  UserMessage,
} from "./types"

/** What a run begins with: the end of another, or messages that the page has. */
export interface Beginning {
  from?: RunOrigin | undefined
  /** The messages that are shown until the run's log has its own. */
  messages: readonly Message[]
  /** The runs of the conversation that these come from. */
  earlier: readonly ConversationRun[]
  /** The first run of a conversation whose first message is replaced. */
  instead?: string | undefined
}

export class Session {
  readonly beginning: Beginning
  /** The message that the run is started with, if it is started here and with one. */
  readonly sent: UserMessage | undefined
  /** Aborts when this chat is done with the run. */
  readonly lifetime = new AbortController()
  /** Resolves when what GET does not carry has been read, as far as that is possible. */
  rest: Promise<void> | undefined
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
  /** Messages that were sent into the run and wait. */
  readonly queue = new Queue()
  earlier: readonly ConversationRun[]

  /** Decision ids that were answered here. An answer is final, whatever older events are still to be read. */
  readonly answered = new Set<string>()

  #from: RunOrigin | undefined
  #state: RunState
  /** The state that GET returned: it is shown while the log is replayed up to it. */
  #loaded: RunState | undefined
  #view: RunState
  #runs: readonly ConversationRun[]

  /** `content`: starts a run with it. `runId`: for a run that is there already. */
  constructor(beginning: Beginning, content?: UserContent, runId?: string) {
    this.beginning = beginning
    this.earlier = beginning.earlier
    this.#from = beginning.from
    this.sent = content === undefined ? undefined : { role: "user", content, timestamp: Date.now() }
    this.#state = { ...EMPTY, ...conversation([...beginning.messages, ...(this.sent ? [this.sent] : [])]) }
    this.#view = this.#state
    this.#runs = beginning.earlier
    this.runId = runId
  }

  /** The state to be shown. */
  get view(): RunState {
    return this.#view
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

  /** The run has been loaded, or was started here: its events can be followed. */
  get isKnown(): boolean {
    return !!(this.started || this.seq || this.#loaded)
  }

  /** The log has said with how many messages the run began. */
  get isBounded(): boolean {
    return this.#view.historyLength !== undefined
  }

  /** Pending items, without those that were answered here and whose resolution is still to be read. */
  get pending(): readonly PendingItem[] {
    const { pending } = this.view
    const open = pending.filter((item) => !this.answered.has(item.decisionId))
    return open.length === pending.length ? pending : open
  }

  /** The conversation's runs so far, this one last. */
  get runs(): readonly ConversationRun[] {
    return this.#runs
  }

  /** The run from which the first of `runs` was started. */
  get firstOrigin(): RunOrigin | undefined {
    return this.#runs[0] ? this.#runs[0].from : this.#from
  }

  /** What the next run begins with; where there is no run, what this one would have begun with. */
  get continuation(): Beginning {
    const { runId, beginning, ended } = this
    const { messages } = this.view
    if (runId && this.isKnown) return { from: { runId }, messages, earlier: this.#runs }
    return ended && !beginning.from ? { ...beginning, messages } : beginning // ended: aborted before it had an id
  }

  /** The server has accepted the start. */
  accept(runId: string): void {
    this.runId = runId
    this.#show()
  }

  /** Adds runs that came before those that are known. */
  addEarlier(run: ConversationRun): void {
    this.earlier = [run, ...this.earlier]
    this.#show()
  }

  /** Takes over a run from GET. One that has ended is complete; for another the log is replayed from its start. */
  join(run: Run): void {
    const state = stateOf(run)
    this.#from = run.origin
    this.queue.take(run)
    if (isTerminal(state.status)) this.#replace(state)
    else this.#loaded = state
    this.#show()
  }

  /** Adds what the log of an ended run has beside the run itself. */
  complete({ tools, decisions, historyLength }: RunState): void {
    this.#state = { ...this.#state, tools, decisions, historyLength }
    this.#show()
  }

  /** Folds events; returns those that are new to the page. */
  apply(events: readonly AgentEvent[]): readonly AgentEvent[] {
    const knownSeq = this.#loaded?.seq ?? 0
    for (const event of events) this.queue.apply(event)
    this.#replace(events.reduce(fold, this.#state))
    if (this.#state.seq >= knownSeq) this.#loaded = undefined
    this.#show()
    return knownSeq ? events.filter((event) => event.type !== "stream_reset" && event.seq > knownSeq) : events
  }

  /** Ends all requests for the run; with `showAborted` its state becomes aborted. */
  stop(showAborted: boolean): void {
    if (showAborted) {
      this.#state = abortedState(this.view)
      this.#loaded = undefined
      this.#show()
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

  /** Until the log has the message that was sent, the page shows it behind what the run begins with. */
  #show(): void {
    const state = this.#state
    const { sent, beginning } = this
    const last = state.messages.at(-1)?.content
    const lacksSent =
      sent &&
      !state.turn &&
      !isTerminal(state.status) &&
      JSON.stringify(last) !== JSON.stringify(sent.content)
    this.#view =
      this.#loaded ?? (lacksSent ? { ...state, ...conversation([...beginning.messages, sent]) } : state)
    this.#showRuns()
  }

  /** Keeps the list of runs the same object while nothing of it changes. */
  #showRuns(): void {
    const { runId, earlier, beginning } = this
    if (!runId || !(this.started || this.isBounded)) return
    const run = conversationRun(runId, this.#from, this.#view, beginning.messages.length)
    const last = this.#runs.at(-1)
    const before = earlier.filter(({ at }) => at < run.at)
    const keys = Object.keys(run) as (keyof ConversationRun)[]
    const isSame = this.#runs.length === before.length + 1 && keys.every((key) => run[key] === last?.[key])
    if (!isSame) this.#runs = [...before, run]
  }
}

/** `length`: how many messages the run began with, where its log does not say so. */
export function conversationRun(
  runId: string,
  from: RunOrigin | undefined,
  { historyLength, tools, decisions }: RunState,
  length: number,
): ConversationRun {
  // A run that begins with messages of the page has its input among them.
  const at = from ? (historyLength ?? length) : Math.max(0, (historyLength ?? length + 1) - 1)
  return { runId, from, at, tools, decisions }
}
