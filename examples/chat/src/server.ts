/** What the page asks the server beside the chat: agents, runs, readiness. The chat itself is @agentkit/react. */
import type { JsonObject, PendingItem, Run, RunStatus } from "@agentkit/react"
import { useEffect, useState } from "react"

/** The URL that this page was loaded from, wherever a proxy put it. Without a slash at the end. */
export const API = new URL(".", location.href).href.replace(/\/$/, "")

export interface Tool {
  name: string
  label: string
  description: string
  parameters: JsonObject
}

export interface Agent {
  name: string
  model: string
  tools: Tool[]
}

/** A run as lists show it. `metadata.title` and `metadata.chat` are this page's own. */
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

/** An answer of the server, or what stands in its way: the HTTP status, or 0 where there was no answer. */
export interface Loaded<T> {
  data?: T
  trouble?: number
}

/**
 * GETs a path, again after `every` milliseconds (while somebody looks), and sooner after a failure that may pass.
 * A changed `fresh` asks at once.
 */
export function useServer<T>(path: string | undefined, every?: number, fresh?: unknown): Loaded<T> {
  const [loaded, setLoaded] = useState<Loaded<T>>({})
  // biome-ignore lint/correctness/useExhaustiveDependencies: `fresh` is there to ask again
  useEffect(() => {
    if (path === undefined) return
    const life = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    const ask = async () => {
      // A poll rests while nobody looks; what is asked for once is asked for, also by a tab in the background.
      const next = every && document.hidden ? {} : await get<T>(path, life.signal)
      if (life.signal.aborted) return
      setLoaded((before) => ({ ...before, ...("data" in next ? { trouble: 0, ...next } : next) }))
      const mayPass =
        next.trouble !== undefined && (next.trouble === 0 || next.trouble === 429 || next.trouble >= 500)
      const wait = mayPass ? 2000 : every
      if (wait) timer = setTimeout(ask, wait)
    }
    void ask()
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
    const isAnswer = response.ok || (path === "/readyz" && response.status === 503)
    return isAnswer ? { data: await response.json() } : { trouble: response.status }
  } catch {
    return { trouble: 0 }
  }
}
