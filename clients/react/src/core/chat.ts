/**
 * A conversation with an agent as a store: a sequence of runs, of which the last one is shown, and followed while there
 * are subscribers. It must not know React, nor touch `window` or `document`.
 *
 * The rules that this file alone knows:
 *
 * 1. agentkit keeps runs and no conversations: each run is started with the messages so far.
 * 2. Every response of the server belongs to the session that requested it. If that is not the current one any more,
 *    or was aborted here, the response changes nothing.
 * 3. State first, then listeners, then callbacks. Methods never reject: what went wrong is `error` and `onError`.
 * 4. Without subscribers no event is read and no callback is called; the next subscriber goes on from there.
 */
import { type Answer, Client } from "./client"
import { AgentKitError, textOf, toAgentKitError } from "./errors"
import { follow } from "./follow"
import type { AnswerOptions, ChatOptions, ChatSnapshot, ClientTool } from "./options"
import { Session } from "./session"
import { snapshotOf, toolOf } from "./snapshot"
import type { AgentEvent, Message, PendingItem, RunStatus, UserContent } from "./types"

/** Error codes that mean that an item is not pending any more. */
const RESOLVED_CODES = ["decision_conflict", "decision_expired", "decision_not_found", "run_not_paused"]

type Callback = "onMessage" | "onEvent" | "onFinish" | "onDecisionPending" | "onError"
type Argument<Name extends Callback> = Parameters<NonNullable<ChatOptions[Name]>>[0]

export class Chat {
  #options: ChatOptions
  readonly #client: Client
  #session: Session
  /** The error of the last call, which does not affect the run itself. */
  #callError: AgentKitError | undefined
  readonly #listeners = new Set<() => void>()
  /** Decision ids that `onDecisionPending` was called for … */
  readonly #notified = new Set<string>()
  /** … or that a client tool executes. */
  readonly #executed = new Set<string>()
  readonly #answering = new Set<string>()
  readonly #initial: ChatSnapshot
  #snapshot: ChatSnapshot

  /** Makes no request: the first subscriber or the first call does. */
  constructor(options: ChatOptions) {
    this.#options = options
    this.#client = new Client(() => this.#options)
    this.#session = new Session(options.initialMessages ?? [], options.runId)
    this.#snapshot = this.#initial = snapshotOf(this.#session, options)
  }

  /** Replaces the options, for further requests and callbacks; a new client tool executes what waits for it already. */
  configure(options: ChatOptions): void {
    this.#options = options
    if (this.#listeners.size) this.#dispatch(this.#session)
  }

  // -- the store

  readonly getSnapshot = (): ChatSnapshot => this.#snapshot

  /** The snapshot that a server renders, and a browser while it hydrates that. */
  readonly getServerSnapshot = (): ChatSnapshot => this.#initial

  /** Follows the run while there are subscribers. Returns the function that ends the subscription. */
  readonly subscribe = (listener: () => void): (() => void) => {
    const entry = () => listener()
    this.#listeners.add(entry)
    if (this.#listeners.size === 1) this.#connect()
    this.#dispatch(this.#session)
    return () => {
      this.#listeners.delete(entry)
      if (this.#listeners.size === 0) this.#session.reading?.abort()
    }
  }

  // -- calls of the page; each resolves to whether the server accepted it

  /** Starts a run with the conversation so far and a new user message. Fails with `run_active` while a run goes on. */
  readonly send = (content: UserContent): Promise<boolean> => {
    return this.#start([...this.#snapshot.messages, { role: "user", content, timestamp: Date.now() }])
  }

  /** Runs the last message of the user again; what came after it is dropped. */
  readonly reload = async (): Promise<boolean> => {
    const messages = this.#snapshot.messages
    const last = messages.findLastIndex((message) => message.role === "user")
    return last < 0 ? this.#refuse("no_run", "there is no message") : this.#start(messages.slice(0, last + 1))
  }

  /**
   * Answers a pending item: a decision, the verdict on a tool call in doubt, or the result of a client-side tool.
   * What misses the schema is `error` with `errors`, and the run stays paused.
   */
  readonly respondWithDecision = (value: unknown, options: AnswerOptions = {}): Promise<boolean> => {
    return this.#respond(options, (item) =>
      item.kind === "client_execute" ? { result: value } : { decision: value },
    )
  }

  /** Rejects a pending item: the model gets the reason. */
  readonly reject = (reason: string, options: Pick<AnswerOptions, "toolCallId"> = {}): Promise<boolean> => {
    return this.#respond(options, () => ({ reject: { reason } }))
  }

  /**
   * Aborts the run, also one that the server does not show any more. From this moment on the snapshot changes by calls
   * only, whatever is still under way. The request is repeated until the server has accepted it.
   */
  readonly abort = async (reason?: string): Promise<boolean> => {
    const session = this.#session
    if (session.ended || !(session.isBusy || session.runId)) return false
    session.stop(true)
    this.#callError = session.error = undefined
    this.#emit()
    this.#finish(session)
    await session.started // a start that is under way is aborted when it has an id
    const { runId } = session
    const neverAborted = new AbortController().signal
    return !!runId && this.#try(session, () => this.#client.abort(runId, reason, neverAborted))
  }

  /** A message for the run that is going on: its next model call sees it. */
  readonly steer = (content: UserContent): Promise<boolean> => this.#message(content, "steer")

  /** A message for the run that is going on: it starts another turn when the run would end. */
  readonly followUp = (content: UserContent): Promise<boolean> => this.#message(content, "followUp")

  /** Follows the run again, after an error or (with `followDecisions: false`) a pause. */
  readonly rejoin = (): void => {
    const { runId, error } = this.#session
    if (!runId) return
    if (error?.code === "invalid_last_event_id") {
      // The server does not have the last event that was seen: join the run as after a reload.
      this.#session.stop(false)
      this.#executed.clear()
      this.#session = new Session(this.#snapshot.messages, runId)
    }
    this.#session.error = this.#callError = undefined
    this.#connect(true)
    this.#emit()
  }

  // -- starting and following

  async #start(messages: readonly Message[]): Promise<boolean> {
    if (this.#session.isBusy) return this.#refuse("run_active", "a run is going on: steer or abort it")
    const { agent, body } = this.#options
    this.#session.stop(false)
    const session = new Session(messages)
    this.#session = session
    this.#callError = undefined
    const request = async () => {
      const more = typeof body === "function" ? body() : body
      const run = await this.#client.start({ ...more, agent, messages }, session.key)
      session.runId = run.id
    }
    session.started = request().catch((error) => this.#fail(session, error))
    this.#emit()
    await session.started
    if (!session.runId || !this.#isCurrent(session)) return false
    this.#emit()
    this.#connect()
    return true
  }

  /** Reads events if there are subscribers, and events to come. */
  #connect(always = false): void {
    const session = this.#session
    const { runId, isBusy, reading } = session
    if (
      runId &&
      isBusy &&
      this.#listeners.size &&
      (always || !this.#staysPaused(session)) &&
      (!reading || reading.signal.aborted)
    ) {
      const controller = new AbortController()
      session.reading = controller
      this.#read(session, runId, controller.signal)
        .catch((error) => {
          if (controller.signal.aborted) return
          controller.abort() // before `onError`, which may call `rejoin` at once
          this.#fail(session, error)
        })
        .finally(() => controller.abort())
    }
  }

  /** Whether the run is at a pause past which it is not followed. */
  #staysPaused(session: Session): boolean {
    return (
      this.#options.followDecisions === false &&
      session.seq >= session.view.seq &&
      session.view.status === "paused"
    )
  }

  async #read(session: Session, runId: string, signal: AbortSignal): Promise<void> {
    const onConnection = (connected: boolean) => {
      if (!signal.aborted && session.reconnecting === connected) {
        session.reconnecting = !connected
        this.#emit()
      }
    }
    const isRejoin = !session.started && !session.seq
    if (isRejoin) {
      const run = await this.#client.get(runId, signal, () => onConnection(false))
      if (signal.aborted) return
      session.join(run)
      this.#emit()
      this.#dispatch(session)
      if (session.ended) return
    }
    await follow(this.#client, runId, {
      after: session.seq,
      signal,
      onEvents: (events) => this.#apply(session, events),
      onConnection,
    })
  }

  #apply(session: Session, events: readonly AgentEvent[]): void {
    const newEvents = session.apply(events)
    if (session.ended || this.#staysPaused(session)) session.reading?.abort()
    this.#emit()
    for (const event of newEvents) {
      if (session.stopped) return // by a callback
      this.#notify(session, "onEvent", event)
      if (event.type === "message_end") this.#notify(session, "onMessage", event.message)
    }
    this.#dispatch(session)
    if (session.ended && !session.stopped) {
      const { failure } = session
      if (failure) this.#notify(session, "onError", failure)
      this.#finish(session)
    }
  }

  // -- pending items

  /** Executes new pending items by client tools, and calls `onDecisionPending` for the others. */
  #dispatch(session: Session): void {
    for (const item of session.pending) {
      const { decisionId } = item
      const tool = toolOf(item, this.#options)
      const seen = tool ? this.#executed : this.#notified
      if (session.stopped || seen.has(decisionId)) continue
      seen.add(decisionId)
      this.#notified.add(decisionId) // executed here: no person is to answer it later
      if (tool) void this.#execute(session, item, tool)
      else this.#notify(session, "onDecisionPending", item)
    }
  }

  async #execute(session: Session, item: PendingItem, tool: ClientTool): Promise<void> {
    const { toolCallId, input } = item
    const context = { runId: item.runId ?? session.runId ?? "", toolCallId, signal: session.lifetime.signal }
    let result: unknown
    this.#emit() // it may have been shown to a person until now
    try {
      const value = (await tool(input, context)) ?? null
      result = JSON.parse(JSON.stringify(value)) // throws where the value has no JSON form
    } catch (error) {
      result = { content: textOf(error), isError: true }
    }
    const { signal } = context
    if (!signal.aborted) await this.#answer(session, item, { result }, signal)
  }

  async #respond(
    { toolCallId, input }: AnswerOptions,
    answer: (item: PendingItem) => Answer,
  ): Promise<boolean> {
    const { pendingDecision, pendingDecisions } = this.#snapshot
    const item = toolCallId ? pendingDecisions.find((one) => one.toolCallId === toolCallId) : pendingDecision
    if (!item) return this.#refuse("run_not_paused", "nothing is pending")
    return this.#answer(this.#session, item, { ...answer(item), ...(input && { input }) })
  }

  /** `lifetime`: for a client tool's result, which is sent until that aborts; to be late with it is no error. */
  async #answer(
    session: Session,
    item: PendingItem,
    answer: Answer,
    lifetime?: AbortSignal,
  ): Promise<boolean> {
    const { decisionId, toolCallId } = item
    const runId = session.runId
    if (!runId || this.#answering.has(decisionId)) return false // a second click
    this.#answering.add(decisionId)
    const isAccepted = await this.#try(session, async () => {
      try {
        await this.#client.answer(runId, { ...answer, decisionId, toolCallId }, lifetime)
        session.answered.add(decisionId)
      } catch (error) {
        if (lifetime?.aborted) return
        if (!RESOLVED_CODES.includes((error as AgentKitError).code)) throw error
        session.answered.add(decisionId) // it was answered elsewhere, or is not needed any more
        if (!lifetime) throw error
      }
    })
    this.#answering.delete(decisionId)
    return isAccepted
  }

  // -- requests beside the stream

  #message(content: UserContent, when: "steer" | "followUp"): Promise<boolean> {
    const session = this.#session
    return this.#try(session, async () => {
      await session.started
      const { runId, isBusy } = session
      if (!runId || !isBusy) throw new AgentKitError("no_run", "no run is going on")
      await this.#client.message(runId, content, when)
    })
  }

  /** Runs a request; what fails after an abort that came meanwhile is not reported. */
  async #try(session: Session, request: () => Promise<unknown>): Promise<boolean> {
    const { stopped } = session
    this.#callError = undefined
    try {
      await request()
      if (this.#isCurrent(session)) this.#emit()
      return true
    } catch (error) {
      if (session === this.#session && session.stopped === stopped) this.#report(toAgentKitError(error))
      return false
    }
  }

  /** Fails a call without a request. */
  #refuse(code: string, message: string): false {
    this.#report(new AgentKitError(code, message))
    return false
  }

  #report(error: AgentKitError): void {
    this.#callError = error
    this.#emit()
    this.#notify(this.#session, "onError", error)
  }

  /** Records that the server refuses to start or to show the session's run. */
  #fail(session: Session, caught: unknown): void {
    if (!this.#isCurrent(session)) return
    session.error = toAgentKitError(caught)
    this.#report(session.error)
  }

  #isCurrent(session: Session): boolean {
    return session === this.#session && !session.ended
  }

  // -- callbacks

  /** Calls `onFinish` for a session that has ended. */
  #finish(session: Session): void {
    const { messages, usage, runId } = this.#snapshot
    const status = session.view.status as RunStatus
    this.#notify(session, "onFinish", { runId, status, messages, usage, error: session.failure })
  }

  #notify<Name extends Callback>(session: Session, name: Name, argument: Argument<Name>): void {
    if (session !== this.#session || !this.#listeners.size) return
    try {
      ;(this.#options[name] as ((argument: Argument<Name>) => void) | undefined)?.(argument)
    } catch (error) {
      setTimeout(() => {
        throw error // an error of the page's callback: shown in the console, without effect on the chat
      })
    }
  }

  #emit(): void {
    this.#snapshot = snapshotOf(this.#session, this.#options, this.#callError)
    for (const listener of [...this.#listeners]) listener()
  }
}
