/**
 * A conversation with an agent as a store: a sequence of runs, of which the last one is shown, and followed while there
 * are subscribers. It must not know React, nor touch `window` or `document`.
 *
 * The rules that this file alone knows:
 *
 * 1. agentkit keeps runs and no conversations: each run is started from the one before, whose messages the server has.
 * 2. Every response of the server belongs to the session that requested it. If that is not the current one any more,
 *    or was aborted here, the response changes nothing.
 * 3. State first, then listeners, then callbacks. Methods never reject: what went wrong is `error` and `onError`.
 * 4. Without subscribers no event is read and no callback is called; the next subscriber goes on from there.
 * 5. A message that the server refuses is part of nothing: what is sent next begins where that one would have.
 */
import { Answers, type AnswersHost } from "./answers"
import { type Answer, Client, randomKey } from "./client"
import { beginningAfter, beginningBefore } from "./cut"
import { AgentKitError, toAgentKitError } from "./errors"
import { follow } from "./follow"
import { isOffline, watchNetwork } from "./network"
import type { AnswerOptions, Branches, ChatOptions, ChatSnapshot, Tabs } from "./options"
import { loadRest, type ReadingHost, startReading } from "./reading"
import { type Beginning, Session } from "./session"
import { snapshotOf } from "./snapshot"
import type { AgentEvent, PendingItem, Run, RunStatus, UserContent } from "./types"

type Callback = "onMessage" | "onEvent" | "onFinish" | "onDecisionPending" | "onError"
type Argument<Name extends Callback> = Parameters<NonNullable<ChatOptions[Name]>>[0]

const NO_BRANCHES: Branches = {}
const NO_RUN = ["no_run", "there is no run for it"] as const
const BUSY = ["run_active", "a run is going on"] as const

export class Chat {
  #options: ChatOptions
  /** The server, called with the chat's options. */
  readonly client: Client
  readonly #answers: Answers
  readonly #host: AnswersHost & ReadingHost
  readonly #tabs: Tabs | undefined
  #session: Session
  /** The error of the last call, which does not affect the run itself. */
  #callError: AgentKitError | undefined
  readonly #listeners = new Set<() => void>()
  /** What ends when the last subscriber leaves. */
  #ends: ((() => void) | undefined)[] = []
  #isRunIdRead = false
  readonly #initial: ChatSnapshot
  #snapshot: ChatSnapshot

  /** Makes no request: the first subscriber or the first call does. */
  constructor(options: ChatOptions) {
    this.#options = options
    this.client = new Client(() => this.#options)
    this.#tabs = options.tabs
    this.#host = {
      client: this.client,
      follow: this.#tabs?.follow ?? follow,
      options: () => this.#options,
      hasReaders: () => this.#listeners.size > 0,
      emit: () => this.#emit(),
      announce: (session, item) => this.#notify(session, "onDecisionPending", item),
      attempt: (session, request) => this.#try(session, request),
      onJoined: (session) => this.#onJoined(session),
      onEvents: (session, events) => this.#onEvents(session, events),
      onRefused: (session, error) => this.#fail(session, error),
    }
    this.#answers = new Answers(this.#host)
    const { runId, initialMessages = [] } = options
    this.#session = new Session(
      { messages: initialMessages, earlier: [] },
      undefined,
      typeof runId === "string" ? runId : undefined,
    )
    this.#initial = snapshotOf(this.#session, options, { isOffline: false, branches: NO_BRANCHES })
    this.#snapshot = this.#initial
  }

  /** Replaces the options, for further requests and callbacks; a new client tool executes what waits for it already. */
  configure(options: ChatOptions): void {
    this.#options = options
    if (this.#listeners.size) this.#answers.dispatch(this.#session)
  }

  // -- the store

  readonly getSnapshot = (): ChatSnapshot => this.#snapshot

  /** The snapshot that a server renders, and a browser while it hydrates that. */
  readonly getServerSnapshot = (): ChatSnapshot => this.#initial

  /** Follows the run while there are subscribers. Returns the function that ends the subscription. */
  readonly subscribe = (listener: () => void): (() => void) => {
    const entry = () => listener()
    this.#listeners.add(entry)
    if (this.#listeners.size === 1) this.#wake()
    this.#answers.dispatch(this.#session)
    return () => {
      this.#listeners.delete(entry)
      if (this.#listeners.size) return
      this.#session.reading?.abort()
      for (const end of this.#ends) end?.()
    }
  }

  /** The first subscriber is there. */
  #wake(): void {
    const { runId } = this.#options
    const session = this.#session
    if (typeof runId === "function" && !this.#isRunIdRead) {
      this.#isRunIdRead = true
      if (!session.started && !session.runId) session.runId = runId() ?? undefined
    }
    const onRun = () => {
      void this.#goOn()
      this.#emit()
    }
    this.#ends = [this.#tabs?.join(onRun), watchNetwork(() => this.#emit())]
    startReading(this.#host, this.#session)
    void this.#goOn()
    if (session.runId !== this.#snapshot.runId || isOffline()) this.#emit()
  }

  // -- calls of the page; each resolves to whether the server accepted it

  /**
   * Starts a run that begins with the conversation so far, with a new message of the user. Fails with `run_active` while
   * a run goes on. Where another tab has gone on with the conversation meanwhile, the message goes there.
   */
  readonly send = async (content: UserContent): Promise<boolean> => {
    const goingOn = this.#goOn()
    if (goingOn) {
      await goingOn
      if (this.#session.isBusy) return this.steer(content)
    }
    return this.#start(this.#session.continuation, content)
  }

  /** Puts another message in the place of the user's message with this index: a new branch of the conversation. */
  readonly edit = (index: number, content: UserContent): Promise<boolean> => this.#branch(index, content)

  /** Has the last message of the user answered again: a new branch of the conversation. */
  readonly regenerate = (): Promise<boolean> => {
    return this.#branch(this.#snapshot.messages.findLastIndex(({ role }) => role === "user"))
  }

  /**
   * Starts a run that begins with the latest one up to the end of a turn: a new branch. Without `content` the model goes
   * on from there.
   */
  readonly fork = async (turn: number, content?: UserContent): Promise<boolean> => {
    const { runs } = this.#session
    const beginning = beginningAfter(runs, this.#snapshot.messages, turn)
    return beginning ? this.#start(beginning, content) : this.#refuse(...NO_RUN)
  }

  /**
   * Tries again what failed: a message that was refused is sent again, a run that failed or was aborted goes on from its
   * last whole turn. Where nothing failed, it is `regenerate`.
   */
  readonly reload = async (): Promise<boolean> => {
    const { runId, beginning, sent, view } = this.#session
    if (!runId && sent) return this.#start(beginning, sent.content)
    const hasFailed = view.status === "failed" || view.status === "aborted"
    return runId && hasFailed ? this.#start(this.#session.continuation) : this.regenerate()
  }

  /** Shows another run in the place of this one: the end of another branch, say. What goes on here is not stopped. */
  readonly open = async (runId: string): Promise<boolean> => {
    const session = this.#session
    return this.#try(session, async () => this.#show(session, await this.client.get(runId)))
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
  readonly reject = (reason: string, options: Omit<AnswerOptions, "input"> = {}): Promise<boolean> => {
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
    return !!runId && this.#try(session, () => this.client.abort(runId, reason))
  }

  /** A message for the run that is going on: its next model call sees it. */
  readonly steer = (content: UserContent): Promise<boolean> => this.#message(content, "steer")

  /** A message for the run that is going on: it starts another turn when the run would end. */
  readonly followUp = (content: UserContent): Promise<boolean> => this.#message(content, "followUp")

  /** Follows the run again, after an error or (with `followDecisions: false`) a pause. */
  readonly rejoin = (): void => {
    const { runId, error, earlier } = this.#session
    if (!runId) return
    if (error?.code === "invalid_last_event_id") {
      // The server does not have the last event that was seen: join the run as after a reload.
      this.#session.stop(false)
      this.#answers.forget()
      this.#session = new Session({ messages: this.#snapshot.messages, earlier }, undefined, runId)
    }
    this.#session.error = this.#callError = undefined
    startReading(this.#host, this.#session, true)
    this.#emit()
  }

  // -- starting and following

  /** Starts a run in the place of the user's message with this index, with that message or another. */
  async #branch(index: number, content?: UserContent): Promise<boolean> {
    const session = this.#session
    const { messages } = this.#snapshot
    const message = messages[index]
    if (message?.role !== "user") return this.#refuse(...NO_RUN)
    if (session.isBusy) return this.#refuse(...BUSY)
    let beginning = beginningBefore(session, messages, index)
    if (!beginning) {
      await loadRest(this.#host, session)
      beginning = beginningBefore(session, messages, index)
    }
    if (beginning && session === this.#session) return this.#start(beginning, content ?? message.content)
    return this.#refuse(...NO_RUN)
  }

  async #start(beginning: Beginning, content?: UserContent): Promise<boolean> {
    const previous = this.#session
    if (previous.isBusy) return this.#refuse(...BUSY)
    previous.stop(false)
    const session = new Session(beginning, content)
    this.#session = session
    this.#callError = undefined
    const { from } = beginning
    const { agent, body } = this.#options
    const request = async () => {
      const more = { ...(typeof body === "function" ? body() : body), agent }
      const start = from ? { from, input: content } : { messages: session.view.messages }
      const { id } = await this.client.start({ ...more, ...start }, randomKey())
      session.accept(id)
      this.#tabs?.add(id, beginning)
    }
    session.started = request().catch((error) => this.#fail(session, error))
    this.#emit()
    await session.started
    if (!session.runId || !this.#isCurrent(session)) return false
    this.#emit()
    startReading(this.#host, this.#session)
    return true
  }

  /** Shows a run in the place of the session's, if that is still shown. */
  #show(before: Session, run: Run): void {
    if (this.#session !== before) return
    before.stop(false)
    const { runs } = before
    const at = runs.findIndex(({ runId }) => runId === run.origin?.runId)
    const session = new Session({ messages: run.messages, earlier: runs.slice(0, at + 1) }, undefined, run.id)
    session.join(run)
    this.#session = session
    this.#callError = undefined
    this.#emit()
    this.#onJoined(session)
    startReading(this.#host, session)
  }

  /** Goes to the run to which the conversation has gone on from an ended one, as far as this browser knows and it is kept. */
  #goOn(): Promise<void> | undefined {
    const session = this.#session
    const { ended, runId } = session
    const newer = ended && runId && this.#tabs?.newerThan(runId)
    if (!newer) return undefined
    return this.client.get(newer).then(
      (run) => this.#show(session, run),
      (error: AgentKitError) => {
        if (error.code === "run_not_found") this.#tabs?.forget(newer)
      },
    )
  }

  // -- what is read

  #onJoined(session: Session): void {
    this.#answers.dispatch(session)
    // A run without tools has nothing beside its messages, but for the place in them at which branches part.
    const hasTools = session.view.messages.some(({ role }) => role === "toolResult")
    if (hasTools || this.#tabs) void loadRest(this.#host, session)
    void this.#goOn()
  }

  /** `events`: those that are new to the page. */
  #onEvents(session: Session, events: readonly AgentEvent[]): void {
    for (const event of events) {
      if (session.stopped) return // by a callback
      this.#notify(session, "onEvent", event)
      if (event.type === "message_end") this.#notify(session, "onMessage", event.message)
    }
    this.#answers.dispatch(session)
    if (session.ended && !session.stopped) {
      const { failure } = session
      if (failure) this.#notify(session, "onError", failure)
      this.#finish(session)
    }
  }

  // -- requests beside the stream

  async #respond(options: AnswerOptions, answer: (item: PendingItem) => Answer): Promise<boolean> {
    const { toolCallId, ...more } = options
    const { pendingDecision, pendingDecisions } = this.#snapshot
    const item = toolCallId ? pendingDecisions.find((one) => one.toolCallId === toolCallId) : pendingDecision
    if (!item) return this.#refuse("run_not_paused", "nothing is pending")
    return this.#answers.send(this.#session, item, { ...answer(item), ...more })
  }

  #message(content: UserContent, when: "steer" | "followUp"): Promise<boolean> {
    const session = this.#session
    return this.#try(session, async () => {
      await session.started
      const { runId, isBusy } = session
      if (!runId || !isBusy) throw new AgentKitError(...NO_RUN)
      session.queue.take(await this.client.message(runId, content, when))
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
    this.#snapshot = snapshotOf(this.#session, this.#options, {
      callError: this.#callError,
      isOffline: isOffline(),
      branches: this.#tabs?.branchesOf(this.#session) ?? NO_BRANCHES,
    })
    for (const listener of [...this.#listeners]) listener()
  }
}
