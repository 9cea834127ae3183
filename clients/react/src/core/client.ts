/**
 * The HTTP calls of the protocol. A call is sent again only where that cannot do anything twice. It knows
 * nothing of pages: no state is kept between calls.
 */
import { away, errorOf, known, notAgentKit } from "./errors"
import type { JsonObject, Limits, Message, Run, UserContent } from "./types"
import { Backoff, type RetryOptions, sleep } from "./wait"

type HeaderFields = Record<string, string>

/** Where the server is, and how to speak to it. All of it is looked up anew for every request. */
export interface ConnectionOptions {
  /** The URL below which `/runs` is: absolute, or of the page's origin. By default the origin itself. */
  api?: string
  /** Sent with every request; a function is called for each, for tokens that age. */
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
export interface StartBody {
  model?: string
  /** Up to 16 kB of JSON. */
  metadata?: JsonObject
  limits?: Limits
}

/** An answer to a pending item. `input` replaces the tool's arguments. */
export type Answer = ({ decision: unknown } | { reject: { reason: string } } | { result: unknown }) & {
  input?: JsonObject
}

interface Call {
  body?: object
  headers?: Record<string, string>
  /** Doing it twice does it twice: it is not sent again where the answer got lost. */
  once?: boolean
  /** Where it is given, the call is sent until it aborts, however often that is. */
  signal?: AbortSignal | undefined
  /** Told each time before the call waits to be sent again. */
  onAway?: (() => void) | undefined
}

/** What is given a signal is sent until that aborts; all else a few times (`retry.attempts`). */
export class Client {
  readonly #options: () => ConnectionOptions

  constructor(options: ConnectionOptions | (() => ConnectionOptions)) {
    this.#options = typeof options === "function" ? options : () => options
  }

  get retry(): RetryOptions {
    return this.#options().retry ?? {}
  }

  /** `key`: starts with the same key and body are one run. */
  start(body: StartBody & { agent: string; messages: readonly Message[] }, key: string): Promise<Run> {
    return this.#json("POST", "/runs", { body, headers: { "idempotency-key": key } })
  }

  /** `onAway`: told as often as the server does not answer, and is about to be asked again. */
  get(runId: string, signal?: AbortSignal, onAway?: () => void): Promise<Run> {
    return this.#json("GET", path(runId), { signal, onAway })
  }

  /** With `decisionId` the same answer may come twice. */
  answer(
    runId: string,
    answer: Answer & { decisionId: string; toolCallId: string },
    signal?: AbortSignal,
  ): Promise<Run> {
    const other = this.#options().resumeApi
    const url = typeof other === "function" ? other(runId) : other
    return this.#json("POST", path(runId, "/resume"), { body: answer, signal }, url)
  }

  abort(runId: string, reason?: string, signal?: AbortSignal): Promise<Run> {
    return this.#json("POST", path(runId, "/abort"), { body: { reason }, signal })
  }

  message(runId: string, message: UserContent, when: "steer" | "followUp"): Promise<Run> {
    return this.#json("POST", path(runId, "/messages"), { body: { message, when }, once: true })
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

  async #json(method: string, at: string, call: Call, url?: string): Promise<Run> {
    const { attempts = 5 } = this.retry
    const backoff = new Backoff(this.retry)
    for (let sent = 1; ; sent++) {
      try {
        const response = await this.#fetch(method, at, call, url)
        return await response.json().catch((cause: unknown) => {
          throw cause instanceof SyntaxError ? notAgentKit({ status: response.status, cause }) : away(cause)
        })
      } catch (caught) {
        const error = known(caught)
        // What the server refused as a whole (503) was not done; of what got lost nobody knows.
        const again = error.isTemporary && (!call.once || [429, 503].includes(error.status))
        if (!again || (call.signal?.aborted ?? sent >= attempts)) throw error
        call.onAway?.()
        await sleep(backoff.next(error.retryAfter), call.signal)
      }
    }
  }

  /** One request. What it throws is an AgentKitError, or the page's own mistake. */
  async #fetch(method: string, at: string, { body, headers, signal }: Call, url?: string): Promise<Response> {
    const options = this.#options()
    const send = options.fetch ?? fetch
    const text = body ? JSON.stringify(body) : null
    let response: Response
    try {
      // A token that could not be had is like a server that could not: it is tried again.
      const given = typeof options.headers === "function" ? await options.headers() : options.headers
      response = await send(url ?? (options.api ?? "").replace(/\/+$/, "") + at, {
        method,
        headers: {
          ...Object.fromEntries(new Headers(given)), // in lower case, so that none is sent twice
          ...headers,
          ...(body && { "content-type": "application/json" }),
        },
        body: text,
        cache: "no-store",
        credentials: options.credentials as RequestCredentials, // fetch has the same default
        signal: signal ?? null,
      })
    } catch (cause) {
      throw away(cause)
    }
    if (!response.ok) throw await errorOf(response)
    return response
  }
}

function path(runId: string, more = ""): string {
  return `/runs/${encodeURIComponent(runId)}${more}`
}
