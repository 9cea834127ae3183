/** The page's requests beside the chat: agents, runs, readiness. The chat itself is @agentkit/react. */
import {
  AgentKitError,
  Client,
  type JsonObject,
  type PendingItem,
  type Run,
  type RunStatus,
} from "@agentkit/react"
import { useEffect, useState } from "react"
import { goToLogin } from "./frame/login"

/** The URL below which the API is, wherever an application or a proxy put it: that of `assets/`, in which this file is. */
export const API = new URL("..", import.meta.url).href.replace(/\/$/, "")

/** The protocol's calls, outside of a chat. */
export const client = new Client({ api: API })

export interface Tool {
  name: string
  label: string
  description: string
  parameters: JsonObject
}

/** What a model takes beside text. */
export interface Capabilities {
  images: boolean
  documents: boolean
  audio: boolean
}

export interface Agent {
  name: string
  model: string
  capabilities: Capabilities
  tools: Tool[]
}

/** A run in a list. `metadata.title` and `metadata.chat` are set by this page. */
export interface ListedRun {
  id: string
  agent: string
  status: RunStatus
  pending: PendingItem[]
  metadata: JsonObject
  updatedAt: number
  parentRunId?: string
}

export interface Readiness {
  checks: Record<string, boolean>
}

export type { Run }

/**
 * The latest response of the server, and what has failed since. `failure`: the HTTP status of an error, or 0 where there was
 * no response; of a 401, `loginUrl` is where a person logs in, if there is such a place.
 */
export interface Loaded<T> {
  data?: T
  failure?: number
  loginUrl?: string
}

/**
 * GETs a path, again every `every` milliseconds while the page is visible, and sooner after a temporary failure.
 * A changed `fresh` requests it at once.
 */
export function useServer<T>(path: string | undefined, every?: number, fresh?: unknown): Loaded<T> {
  const [loaded, setLoaded] = useState<Loaded<T>>({})
  // biome-ignore lint/correctness/useExhaustiveDependencies: a change of `fresh` requests again
  useEffect(() => {
    if (path === undefined) return
    const life = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    let asked = 0
    const ask = async () => {
      clearTimeout(timer)
      asked += 1
      const turn = asked
      // A hidden page does not poll; a single request is made in a hidden page too.
      const next = every && document.hidden ? {} : await get<T>(path, life.signal)
      if (life.signal.aborted || turn !== asked) return
      setLoaded((before) => ("data" in next ? next : { ...before, ...next }))
      const isTemporary =
        next.failure !== undefined && (next.failure === 0 || next.failure === 429 || next.failure >= 500)
      const wait = isTemporary ? 2000 : every
      if (wait) timer = setTimeout(ask, wait)
    }
    void ask()
    if (every) {
      addEventListener("offline", ask, life)
      addEventListener("online", ask, life)
      document.addEventListener("visibilitychange", ask, life)
    }
    return () => {
      life.abort()
      clearTimeout(timer)
    }
  }, [path, every, fresh])
  return loaded
}

async function get<T>(path: string, signal: AbortSignal): Promise<Loaded<T>> {
  try {
    const response = await fetch(API + path, { headers: { Accept: "application/json" }, signal })
    noteTime(response)
    const isAnswer = response.ok || (path === "/readyz" && response.status === 503)
    if (isAnswer) return { data: await response.json() }
    if (response.status !== 401) return { failure: response.status }
    const { loginUrl } = await response.json().catch(() => ({}))
    if (loginUrl) goToLogin(loginUrl)
    return { failure: 401, loginUrl }
  } catch {
    return { failure: 0 }
  }
}

/** By how many milliseconds the server's clock is ahead of this one. */
let ahead = 0

/** Where the clocks disagree by more than a response takes, and more than the second that its header has. */
function noteTime(response: Response): void {
  const time = Date.parse(response.headers.get("Date") ?? "")
  const difference = time - Date.now()
  if (!Number.isNaN(difference)) ahead = Math.abs(difference) < 3000 ? 0 : difference
}

/** The time by the server's clock, by which items expire. */
export function now(): number {
  return Date.now() + ahead
}

/** POSTs to the server a thing that takes effect once. Rejects with an AgentKitError. */
export async function post<T = Run>(path: string, body: object): Promise<T> {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": newKey() }
  let response: Response
  try {
    response = await fetch(API + path, { method: "POST", headers, body: JSON.stringify(body) })
  } catch (cause) {
    throw new AgentKitError("unreachable", "no server answers", { cause })
  }
  const answer = await response.json().catch(() => ({}))
  if (response.ok) return answer
  if (answer.loginUrl) goToLogin(answer.loginUrl)
  const { code = "not_agentkit", detail = `HTTP ${response.status}`, errors = [] } = answer
  throw new AgentKitError(code, detail, { status: response.status, errors })
}

/** 128 random bits. `crypto.randomUUID` is missing on pages without TLS. */
export function newKey(): string {
  return crypto.getRandomValues(new Uint32Array(4)).join("-")
}

/** Explains the HTTP status of a request that failed; 0 where there was no answer. */
export function failureText(status: number): string {
  if (status === 401) return "You are not logged in."
  if (status === 403) return "You may not see this."
  if (status === 404) return "There is no such run (any more)."
  return status
    ? `The server cannot answer at the moment (${status}). Trying again …`
    : "The server does not answer. Trying again …"
}
