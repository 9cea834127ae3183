/**
 * A conversation with an agent as a store: a sequence of runs, of which the last one is shown and followed while
 * somebody subscribes. It must not know React, nor touch `window` or `document`.
 *
 * The rules that this file alone knows:
 *
 * 1. agentkit keeps runs and no conversations: each run is started with the messages so far.
 * 2. Every answer of the server belongs to the session it was asked for. If that is not the current one any more,
 *    or was aborted here, the answer changes nothing.
 * 3. State first, then listeners, then callbacks. Methods never reject: what went wrong is `error` and `onError`.
 * 4. Without subscribers nothing is read and nothing is told; the next subscriber goes on where it stopped.
 */
import { type Answer, Client } from "./client"
import { AgentKitError, known, textOf } from "./errors"
import { follow } from "./follow"
import type { AnswerOptions, ChatOptions, ChatSnapshot, ClientTool } from "./options"
import { Session } from "./session"
import { look, toolOf } from "./snapshot"
import type { AgentEvent, Message, PendingItem, RunStatus, UserContent } from "./types"

/** Codes that say that an item is not pending any more. */
const GONE = ["decision_conflict", "decision_expired", "decision_not_found", "run_not_paused"]

type Callback = "onMessage" | "onEvent" | "onFinish" | "onDecisionPending" | "onError"
type News<Name extends Callback> = Parameters<NonNullable<ChatOptions[Name]>>[0]

export class Chat {
  #options: ChatOptions
  readonly #client: Client
  #session: Session
  /** What was refused last, while the run itself is well. */
  #refused: AgentKitError | undefined
  readonly #listeners = new Set<() => void>()
  /** Decision ids that a person was told of … */
  readonly #told = new Set<string>()
  /** … or that a tool of this page took on. */
  readonly #executed = new Set<string>()
  readonly #answering = new Set<string>()
  readonly #initial: ChatSnapshot
  #snapshot: ChatSnapshot

  /** Makes no request: that begins with the first subscriber, or a call. */
  constructor(options: ChatOptions) {
    this.#options = options
    this.#client = new Client(() => this.#options)
    this.#session = new Session(options.initialMessages ?? [], options.runId)
    this.#snapshot = this.#initial = look(this.#session, options)
  }

  /** New options: for the next requests and callbacks; a new client tool executes what waits for it already. */
  configure(options: ChatOptions): void {
    this.#options = options
    if (this.#listeners.size) this.#offer(this.#session)
  }

  // -- the store

  readonly getSnapshot = (): ChatSnapshot => this.#snapshot

  /** What a server renders, and a browser for as long as it hydrates that. */
  readonly getServerSnapshot = (): ChatSnapshot => this.#initial

  /** While there are subscribers, the run is followed. Returns what ends the subscription. */
  readonly subscribe = (listener: () => void): (() => void) => {
    const own = () => listener()
    this.#listeners.add(own)
    if (this.#listeners.size === 1) this.#goOn()
    this.#offer(this.#session)
    return () => {
      this.#listeners.delete(own)
      if (this.#listeners.size === 0) this.#session.reading?.abort()
    }
  }

  // -- what a person does; each resolves to whether the server took it

  /** Starts a run with the conversation so far and a new message of the user. Not while a run is going on. */
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

  /** Refuses a pending item: the model is told the reason. */
  readonly reject = (reason: string, options: Pick<AnswerOptions, "toolCallId"> = {}): Promise<boolean> => {
    return this.#respond(options, () => ({ reject: { reason } }))
  }

  /**
   * Ends the run, also one that the server does not show any more. From this moment on nothing changes here by
   * itself, whatever is still under way. The server is told until it has heard it.
   */
  readonly abort = async (reason?: string): Promise<boolean> => {
    const session = this.#session
    if (session.ended || !(session.isBusy || session.runId)) return false
    session.stop(true)
    this.#refused = session.lost = undefined
    this.#emit()
    this.#finish(session)
    await session.started // a start that is under way is aborted when it has an id
    const { runId } = session
    const untilHeard = new AbortController().signal
    return !!runId && this.#try(session, () => this.#client.abort(runId, reason, untilHeard))
  }

  /** A message for the run that is going on: its next model call sees it. */
  readonly steer = (content: UserContent): Promise<boolean> => this.#message(content, "steer")

  /** A message for the run that is going on: it starts another turn when the run would end. */
  readonly followUp = (content: UserContent): Promise<boolean> => this.#message(content, "followUp")

  /** Follows the run again, after an error or (with `followDecisions: false`) a pause. */
  readonly rejoin = (): void => {
    const { runId, lost } = this.#session
    if (!runId) return
    if (lost?.code === "invalid_last_event_id") {
      // The server has forgotten what was seen last: the run is joined as after a reload.
      this.#session.stop(false)
      this.#executed.clear()
      this.#session = new Session(this.#snapshot.messages, runId)
    }
    this.#session.lost = this.#refused = undefined
    this.#goOn(true)
    this.#emit()
  }

  // -- starting and following

  async #start(messages: readonly Message[]): Promise<boolean> {
    if (this.#session.isBusy) return this.#refuse("run_active", "a run is going on: steer or abort it")
    const { agent, body } = this.#options
    this.#session.stop(false)
    const session = new Session(messages)
    this.#session = session
    this.#refused = undefined
    const request = async () => {
      const more = typeof body === "function" ? body() : body
      const run = await this.#client.start({ ...more, agent, messages }, session.key)
      session.runId = run.id
    }
    session.started = request().catch((error) => this.#lose(session, error))
    this.#emit()
    await session.started
    if (!session.runId || !this.#isCurrent(session)) return false
    this.#emit()
    this.#goOn()
    return true
  }

  /** Reads events if there is somebody to read them for, and some to come. */
  #goOn(always = false): void {
    const session = this.#session
    const { runId, isBusy, reading } = session
    if (
      runId &&
      isBusy &&
      this.#listeners.size &&
      (always || !this.#rests(session)) &&
      (!reading || reading.signal.aborted)
    ) {
      const next = new AbortController()
      session.reading = next
      this.#read(session, runId, next.signal)
        .catch((error) => {
          if (next.signal.aborted) return
          next.abort() // who is told of it may want to go on at once
          this.#lose(session, error)
        })
        .finally(() => next.abort())
    }
  }

  /** At a pause past which nobody wants to read. */
  #rests(session: Session): boolean {
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
      this.#offer(session)
      if (session.ended) return
    }
    await follow(this.#client, runId, {
      after: session.seq,
      signal,
      onEvents: (events) => this.#take(session, events),
      onConnection,
    })
  }

  #take(session: Session, events: readonly AgentEvent[]): void {
    const news = session.take(events)
    if (session.ended || this.#rests(session)) session.reading?.abort()
    this.#emit()
    for (const event of news) {
      if (session.stopped) return // by a callback
      this.#tell(session, "onEvent", event)
      if (event.type === "message_end") this.#tell(session, "onMessage", event.message)
    }
    this.#offer(session)
    if (session.ended && !session.stopped) {
      const { failure } = session
      if (failure) this.#tell(session, "onError", failure)
      this.#finish(session)
    }
  }

  // -- pending items

  /** Tells of items that are new, or executes them. */
  #offer(session: Session): void {
    for (const item of session.pending) {
      const { decisionId } = item
      const tool = toolOf(item, this.#options)
      const seen = tool ? this.#executed : this.#told
      if (session.stopped || seen.has(decisionId)) continue
      seen.add(decisionId)
      this.#told.add(decisionId) // who executes it does not ask a person later
      if (tool) void this.#execute(session, item, tool)
      else this.#tell(session, "onDecisionPending", item)
    }
  }

  async #execute(session: Session, item: PendingItem, tool: ClientTool): Promise<void> {
    const { toolCallId, input } = item
    const context = { runId: item.runId ?? session.runId ?? "", toolCallId, signal: session.life.signal }
    let result: unknown
    this.#emit() // a person may have been asked for it until now
    try {
      const given = (await tool(input, context)) ?? null
      result = JSON.parse(JSON.stringify(given)) // what JSON has no word for is the tool's mistake
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

  /** `life`: of a result that nobody waits to see. It is sent until that aborts, and being late with it is no error. */
  async #answer(session: Session, item: PendingItem, answer: Answer, life?: AbortSignal): Promise<boolean> {
    const { decisionId, toolCallId } = item
    const runId = session.runId
    if (!runId || this.#answering.has(decisionId)) return false // a second click
    this.#answering.add(decisionId)
    const taken = await this.#try(session, async () => {
      try {
        await this.#client.answer(runId, { ...answer, decisionId, toolCallId }, life)
        session.answered.add(decisionId)
      } catch (error) {
        if (life?.aborted) return
        if (!GONE.includes((error as AgentKitError).code)) throw error
        session.answered.add(decisionId) // by somebody else, or nobody needs it any more
        if (!life) throw error
      }
    })
    this.#answering.delete(decisionId)
    return taken
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

  /** What fails after an abort that came meanwhile is told to nobody. */
  async #try(session: Session, request: () => Promise<unknown>): Promise<boolean> {
    const { stopped } = session
    this.#refused = undefined
    try {
      await request()
      if (this.#isCurrent(session)) this.#emit()
      return true
    } catch (error) {
      if (session === this.#session && session.stopped === stopped) this.#complain(known(error))
      return false
    }
  }

  /** Refused here, without a request. */
  #refuse(code: string, message: string): false {
    this.#complain(new AgentKitError(code, message))
    return false
  }

  #complain(error: AgentKitError): void {
    this.#refused = error
    this.#emit()
    this.#tell(this.#session, "onError", error)
  }

  /** The server refuses to start or to show the session's run. */
  #lose(session: Session, caught: unknown): void {
    if (!this.#isCurrent(session)) return
    session.lost = known(caught)
    this.#complain(session.lost)
  }

  #isCurrent(session: Session): boolean {
    return session === this.#session && !session.ended
  }

  // -- telling

  /** Of a session that has ended. */
  #finish(session: Session): void {
    const { messages, usage, runId } = this.#snapshot
    const status = session.view.status as RunStatus
    this.#tell(session, "onFinish", { runId, status, messages, usage, error: session.failure })
  }

  #tell<Name extends Callback>(session: Session, name: Name, news: News<Name>): void {
    if (session !== this.#session || !this.#listeners.size) return
    try {
      ;(this.#options[name] as ((news: News<Name>) => void) | undefined)?.(news)
    } catch (error) {
      setTimeout(() => {
        throw error // the page's own mistake: seen in its console, and no harm to the chat
      })
    }
  }

  #emit(): void {
    this.#snapshot = look(this.#session, this.#options, this.#refused)
    for (const listener of [...this.#listeners]) listener()
  }
}
