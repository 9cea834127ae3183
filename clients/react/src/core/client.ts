/**
 * The HTTP calls of the protocol. Each may be sent several times and takes effect once: what would not by itself has an
 * idempotency key. It keeps no state between calls.
 */
import { errorOf, notAgentKit, toAgentKitError, unreachable } from "./errors"
import type { JsonObject, Message, Run, RunOrigin, ToolDefinition, UserContent } from "./types"
import { Backoff, type RetryOptions, sleep } from "./wait"
import type * as wire from "./wire"

type HeaderFields = Record<string, string>

/** Where the server is, and how to call it. The options are read for every request. */
export interface ConnectionOptions {
  /** The URL below which `/runs` is: absolute, or of the page's origin. By default the origin itself. */
  api?: string
  /** Sent with every request; a function is called for each, for tokens that expire. */
  headers?: HeaderFields | (() => HeaderFields | Promise<HeaderFields>)
  /** As in `fetch`: "include" sends cookies to another origin. */
  credentials?: RequestCredentials
  /** By default the global `fetch`. */
  fetch?: typeof fetch
  retry?: RetryOptions
  /** The URL that answers to pending items are sent to, instead of `{api}/runs/{runId}/resume`. */
  resumeApi?: string | ((runId: string) => string)
}

/** What a run is started with beside its messages. */
export type StartBody = Pick<wire.StartBody, "model" | "metadata" | "limits">

/** What a run begins with: messages, the content of one, or another run and perhaps a further message. */
export type Start =
  | { messages: readonly Message[] }
  | { input: UserContent }
  | { from: RunOrigin; input?: UserContent | undefined }

/** An answer to a pending item. `input` replaces the tool's arguments; `remember`: later calls are answered alike. */
export type Answer = ({ decision: unknown } | { reject: { reason: string } } | { result: unknown }) & {
  input?: JsonObject
  remember?: boolean
}

interface Call {
  body?: object
  headers?: HeaderFields
  /** With a signal, the call is repeated until the signal aborts, without a limit of attempts. */
  signal?: AbortSignal | undefined
  /** Called each time before the call waits to be sent again. */
  onRetry?: (() => void) | undefined
}

/** The calls. With a signal they are repeated until it aborts, without one `retry.attempts` times. */
export class Client {
  readonly #options: () => ConnectionOptions

  constructor(options: ConnectionOptions | (() => ConnectionOptions)) {
    this.#options = typeof options === "function" ? options : () => options
  }

  get retry(): RetryOptions {
    return this.#options().retry ?? {}
  }

  /** `key`: starts with the same key and body are one run. */
  start(body: StartBody & Start & { agent: string }, key: string): Promise<Run> {
    return this.#json("POST", "/runs", { body, headers: keyed(key) })
  }

  /** `onRetry`: called each time the server does not answer and the request is about to be repeated. */
  get(runId: string, signal?: AbortSignal, onRetry?: () => void): Promise<Run> {
    return this.#json("GET", path(runId), { signal, onRetry })
  }

  answer(
    runId: string,
    answer: Answer & { decisionId: string; toolCallId: string },
    signal?: AbortSignal,
  ): Promise<Run> {
    const resumeApi = this.#options().resumeApi
    const url = typeof resumeApi === "function" ? resumeApi(runId) : resumeApi
    return this.#json("POST", path(runId, "/resume"), { body: answer, headers: keyed(), signal }, url)
  }

  /** Repeated until the server answers. */
  abort(runId: string, reason?: string): Promise<Run> {
    const { signal } = new AbortController()
    return this.#json("POST", path(runId, "/abort"), { body: { reason }, signal })
  }

  message(runId: string, message: UserContent, when: "steer" | "followUp"): Promise<Run> {
    return this.#json("POST", path(runId, "/messages"), { body: { message, when }, headers: keyed() })
  }

  /** The agents of the server, with their tools. */
  agents(): Promise<{ agents: { name: string; tools: ToolDefinition[] }[] }> {
    return this.#json("GET", "/agents", {})
  }

  /** The events after a seq; undefined where there are none left to come. One request, never repeated here. */
  async events(
    runId: string,
    after: number,
    signal: AbortSignal,
  ): Promise<ReadableStream<Uint8Array> | undefined> {
    const headers = { accept: "text/event-stream", ...(after && { "last-event-id": `${after}` }) }
    const response = await this.#fetch("GET", path(runId, "/events"), { headers, signal })
    if (response.status === 204) return undefined
    if (!response.body || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      throw notAgentKit({ status: response.status })
    }
    return response.body
  }

  async #json<T = Run>(method: string, at: string, call: Call, url?: string): Promise<T> {
    const { attempts = 5 } = this.retry
    const backoff = new Backoff(this.retry)
    for (let attempt = 1; ; attempt++) {
      try {
        const response = await this.#fetch(method, at, call, url)
        return await response.json().catch((cause: unknown) => {
          throw cause instanceof SyntaxError
            ? notAgentKit({ status: response.status, cause })
            : unreachable(cause)
        })
      } catch (caught) {
        const error = toAgentKitError(caught)
        if (!error.isTemporary || (call.signal?.aborted ?? attempt >= attempts)) throw error
        call.onRetry?.()
        await sleep(backoff.next(error.retryAfter), call.signal, !error.retryAfter)
      }
    }
  }

  /** Sends one request. Throws an AgentKitError, or what an option of the page throws. */
  async #fetch(method: string, at: string, { body, headers, signal }: Call, url?: string): Promise<Response> {
    const options = this.#options()
    const send = options.fetch ?? fetch
    const text = body ? JSON.stringify(body) : null
    let response: Response
    try {
      // Headers that cannot be had count as a server that does not answer: the call is repeated.
      const pageHeaders = typeof options.headers === "function" ? await options.headers() : options.headers
      response = await send(url ?? (options.api ?? "").replace(/\/+$/, "") + at, {
        method,
        headers: {
          ...Object.fromEntries(new Headers(pageHeaders)), // in lower case, so that none is sent twice
          ...headers,
          ...(body && { "content-type": "application/json" }),
        },
        body: text,
        cache: "no-store",
        credentials: options.credentials as RequestCredentials, // fetch has the same default
        signal: signal ?? null,
      })
    } catch (cause) {
      throw unreachable(cause)
    }
    if (!response.ok) throw await errorOf(response)
    return response
  }
}

/** The header under which a call takes effect once, however often it is sent: `key`, or one of the call's own. */
function keyed(key = randomKey()): HeaderFields {
  return { "idempotency-key": key }
}

/** 128 random bits. `crypto.randomUUID` is missing on pages without TLS. */
export function randomKey(): string {
  return crypto.getRandomValues(new Uint32Array(4)).join("-")
}

function path(runId: string, more = ""): string {
  return `/runs/${encodeURIComponent(runId)}${more}`
}
