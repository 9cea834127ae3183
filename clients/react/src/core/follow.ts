/**
 * A run's events, each once and in order, whatever becomes of the connection. It knows seqs and which event is
 * the last; what events mean for a page it must not know.
 */
import type { Client } from "./client"
import { AgentKitError, notAgentKit } from "./errors"
import { isTerminal } from "./fold"
import { readSse } from "./sse"
import type { AgentEvent } from "./types"
import { Backoff, sleep } from "./wait"

/** A server sends at least a comment every 15 s: a stream that is silent for longer than this is dead. */
const SILENCE = 40_000

export interface Following {
  /** The seq that the reader has already. */
  after: number
  /** Ends the reading: nothing is told any more, from this moment on. */
  signal: AbortSignal
  /** What came together, in order. */
  onEvents(events: AgentEvent[]): void
  /** Whether the server answers. */
  onConnection?(connected: boolean): void
  /** Milliseconds without a byte after which a stream is dead (40,000). */
  silence?: number
}

/** Resolves after the run's last event, or when aborted. Rejects with the AgentKitError of a server that refuses. */
export async function follow(client: Client, runId: string, following: Following): Promise<void> {
  const { signal, onEvents, onConnection, silence = SILENCE } = following
  const backoff = new Backoff(client.retry)
  let last = following.after
  let ended = false

  const take = (got: AgentEvent[]): boolean => {
    if (signal.aborted) return true
    const fresh: AgentEvent[] = []
    let gap = false
    for (const event of got) {
      const isReset = event.type === "stream_reset"
      const seq = isReset ? event.run.lastSeq : event.seq
      if (!isReset && seq <= last) continue
      gap = !isReset && seq > last + 1
      if (gap) break // a broken stream: what is missing is in the log
      last = seq
      fresh.push(event)
      ended = isReset ? isTerminal(event.run.status) : event.type === "agent_end"
    }
    if (fresh.length) {
      backoff.reset()
      onEvents(fresh)
    }
    return gap || ended || signal.aborted
  }

  while (!signal.aborted) {
    let wait: number | undefined
    const connection = new AbortController()
    const close = () => connection.abort()
    let watchdog = setTimeout(close, silence)
    try {
      const body = await client.events(runId, last, AbortSignal.any([signal, connection.signal]))
      if (!body || signal.aborted) return
      onConnection?.(true)
      await readSse<AgentEvent>(body, {
        onRetry: (ms) => {
          backoff.base = ms || backoff.base // a server that asks for no wait is not called without one
        },
        onChunk: (events) => {
          clearTimeout(watchdog)
          watchdog = setTimeout(close, silence)
          return take(events)
        },
      })
    } catch (cause) {
      if (signal.aborted) return
      // A stream that cannot be read is not the protocol's.
      const error = cause instanceof AgentKitError ? cause : notAgentKit({ cause })
      if (!error.isTemporary) throw error
      wait = error.retryAfter
    } finally {
      clearTimeout(watchdog)
      connection.abort()
    }
    if (ended || signal.aborted) return
    onConnection?.(false)
    await sleep(backoff.next(wait), signal)
  }
}
