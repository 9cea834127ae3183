/**
 * A server that speaks the protocol over real HTTP on the loopback, and plays golden logs. A test decides how much
 * of a log is there, what breaks, and what an answer is. It checks requests as little as it can; what they were
 * stands in `requests`.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { afterEach } from "vitest"
import { EMPTY, fold, isTerminal } from "../src/core/fold"
import type { AgentEvent, Message, QueuedMessage, Run, StoredEvent } from "../src/core/types"
import { type Golden, goingOn, golden } from "./golden"

export const RUN = "00000000-0000-7000-8000-000000000001"

export interface Recorded {
  method: string
  path: string
  headers: IncomingMessage["headers"]
  // biome-ignore lint/suspicious/noExplicitAny: whatever a test looks for in it
  body: any
}

/** Answers a request in the server's place: true where it did. */
type Reply = (request: Recorded, response: ServerResponse) => boolean | undefined

export class PlayedRun {
  readonly id: string
  readonly script: Golden
  shown: number
  /** The first seq that is still kept. */
  kept = 1
  readonly streams = new Set<ServerResponse>()
  queued: QueuedMessage[] = []
  /** It was aborted, whatever its log says. */
  isAborted = false
  origin: Run["origin"]

  constructor(id: string, script: Golden, shown: number) {
    this.id = id
    this.script = script
    this.shown = shown
  }

  /** How many messages it began with. */
  get begins(): number {
    const [start] = this.script.events
    return start?.type === "agent_start" ? start.messages.length : 0
  }

  get log(): StoredEvent[] {
    return this.script.events.slice(0, this.shown)
  }

  get snapshot(): Run {
    const state = this.log.reduce(fold, EMPTY)
    return {
      id: this.id,
      agent: "a",
      status: state.status ?? "queued",
      model: "scripted:script",
      messages: [...state.messages],
      pending: [...state.pending],
      queued: this.queued,
      ...(this.origin && { origin: this.origin }),
      turn: state.turn,
      usage: {} as Run["usage"],
      ...(state.error && { error: state.error }),
      metadata: {},
      createdAt: 1,
      updatedAt: 1,
      lastSeq: state.seq,
      schemaVersion: 1,
    }
  }

  /** Shows the log up to a number of events, up to the first event of a type after what is shown, or all of it. */
  show(until: number | StoredEvent["type"] | "all"): void {
    const before = this.shown
    const found = this.script.events.findIndex((event, at) => at >= before && event.type === until)
    this.shown = typeof until === "number" ? until : until === "all" ? this.script.events.length : found + 1
    for (const stream of this.streams) this.write(stream, this.script.events.slice(before, this.shown))
  }

  write(stream: ServerResponse, events: AgentEvent[]): void {
    const frames = events.map((event) => {
      const id = event.type === "stream_reset" ? event.run.lastSeq : event.seq
      return `id: ${id}\ndata: ${JSON.stringify(event)}\n\n`
    })
    stream.write(frames.join(""))
    if (events.some((event) => event.type === "agent_end")) stream.end()
  }

  /** Cuts every stream in the middle of a frame. */
  cut(): void {
    for (const stream of this.streams) {
      stream.write('id: 999\ndata: {"type":"turn_st')
      stream.socket?.destroy()
    }
  }
}

export class FakeServer {
  readonly requests: Recorded[] = []
  readonly runs = new Map<string, PlayedRun>()
  /** What a stream says of the wait before the next. */
  retry = 10
  /** Asked before anything else. */
  reply: Reply = () => undefined
  /** What POST /runs begins, in turn; the last one again and again. */
  plays: { name: string | Golden; shown?: number | StoredEvent["type"] | "all" }[] = []
  #started = 0
  readonly #http: Server

  constructor() {
    this.#http = createServer((request, response) => void this.#serve(request, response))
  }

  static async open(...plays: FakeServer["plays"]): Promise<FakeServer> {
    const server = new FakeServer()
    server.plays = plays
    await new Promise<void>((resolve) => server.#http.listen(0, "127.0.0.1", resolve))
    afterEach(() => server.close())
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`
  }

  close(): Promise<void> {
    this.#http.closeAllConnections()
    return new Promise((resolve) => this.#http.close(() => resolve()))
  }

  asked(method: string, path: RegExp): Recorded[] {
    return this.requests.filter((request) => request.method === method && path.test(request.path))
  }

  /** A run that is there already. */
  put(name: string | Golden, shown: number | StoredEvent["type"] | "all" = "all", id = RUN): PlayedRun {
    const run = new PlayedRun(id, typeof name === "string" ? golden(name) : name, 0)
    run.show(shown)
    this.runs.set(id, run)
    return run
  }

  get run(): PlayedRun {
    const last = [...this.runs.values()].at(-1)
    if (!last) throw new Error("no run was started")
    return last
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = ""
    for await (const chunk of request) text += chunk
    const { method = "", url = "", headers } = request
    const recorded = { method, path: url, headers, body: text ? JSON.parse(text) : undefined }
    this.requests.push(recorded)
    if (this.reply(recorded, response)) return
    const [, id = "", action = ""] = /^\/runs\/([^/]+)\/?(.*)$/.exec(url) ?? []
    if (method === "POST" && url === "/runs") return this.#start(recorded.body, response)
    const run = this.runs.get(id)
    if (!run) return problem(response, 404, "run_not_found")
    if (method === "POST" && action === "abort") run.isAborted = true
    if (method === "POST" && action === "resume") run.show(this.resumed)
    if (action === "events") return this.#stream(run, Number(headers["last-event-id"] ?? 0), response)
    json(response, method === "GET" ? 200 : 202, run.snapshot)
  }

  /** How much of the log an answer brings at once. */
  resumed: StoredEvent["type"] = "tool_decision_resolved"

  /** As the server does it, but for the agent's answers, which are played. */
  #start(body: Recorded["body"], response: ServerResponse): undefined {
    const { from, input } = body
    const source = this.runs.get(from?.runId)
    if (from && !source) return problem(response, 404, "run_not_found")
    if (source && !source.isAborted && !isTerminal(source.snapshot.status)) {
      return problem(response, 409, "run_not_terminal")
    }
    const play = this.plays[Math.min(this.#started, this.plays.length - 1)]
    if (!play) throw new Error("the test plays nothing")
    const id = RUN.replace(/1$/, String(++this.#started))
    const script = typeof play.name === "string" ? golden(play.name) : play.name
    const history = source && messagesUpTo(source.snapshot.messages, source.begins, from.turn)
    const log = history ? goingOn(script, history, input) : script
    const run = this.put(log, play.shown ?? "all", id)
    if (source) run.origin = { runId: source.id, turn: from.turn ?? source.snapshot.turn }
    json(response, 202, run.snapshot)
  }

  #stream(run: PlayedRun, after: number, response: ServerResponse): void {
    if (after > run.shown) {
      problem(response, 400, "invalid_last_event_id")
      return
    }
    if (after === run.shown && isTerminal(run.snapshot.status)) {
      response.writeHead(204).end()
      return
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" })
    response.write(`retry: ${this.retry}\n\n`)
    run.streams.add(response)
    response.on("close", () => run.streams.delete(response))
    if (after + 1 < run.kept) run.write(response, [{ type: "stream_reset", run: run.snapshot }])
    else run.write(response, run.log.slice(after))
  }
}

/** `begins`: the index of the run's own first message. Without a turn, all of them. */
function messagesUpTo(messages: Message[], begins: number, turn?: number): Message[] {
  if (turn === undefined) return messages
  let turns = 0
  const end = messages.findIndex((message, at) => {
    if (at >= begins && message.role === "assistant") turns++
    return turns > turn || (turns === turn && message.role === "user")
  })
  return end < 0 ? messages : messages.slice(0, end)
}

export function json(response: ServerResponse, status: number, body: unknown, headers = {}): undefined {
  response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body))
}

export function problem(
  response: ServerResponse,
  status: number,
  code: string,
  more: object = {},
  headers: Record<string, string> = {},
): undefined {
  const body = { type: "about:blank", title: "Problem", status, detail: `it is ${code}`, code, ...more }
  response.writeHead(status, { "Content-Type": "application/problem+json", ...headers })
  response.end(JSON.stringify(body))
}

/** Retries without waiting long. */
export const QUICK = { base: 5, cap: 20 }
