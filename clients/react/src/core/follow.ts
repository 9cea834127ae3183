/**
 * A run's events, each once and in order, however often the connection breaks. It knows seqs and which event is the
 * last; it must not know what events mean for a page.
 */
import type { Client } from "./client"
import { AgentKitError, notAgentKit } from "./errors"
import { isTerminal } from "./fold"
import { readSse } from "./sse"
import type { AgentEvent } from "./types"
import { Backoff, sleep } from "./wait"

/** A server sends at least a comment every 15 s: a stream that is silent for longer, in milliseconds, is reconnected. */
const SILENCE = 40_000

export interface Following {
  /** The last seq that the reader has. */
  after: number
  /** Ends the reading: from this moment on no callback is called. */
  signal: AbortSignal
  /** The events of one chunk, in order. */
  onEvents(events: AgentEvent[]): void
  /** Whether the server answers. */
  onConnection?(connected: boolean): void
  /** Milliseconds without a byte after which a stream is reconnected (40,000). */
  silence?: number
}

/** Resolves after the run's last event, or when aborted. Rejects with the AgentKitError of a server that refuses. */
export async function follow(client: Client, runId: string, following: Following): Promise<void> {
  const { signal, onEvents, onConnection, silence = SILENCE } = following
  const backoff = new Backoff(client.retry)
  let last = following.after
  let ended = false

  const accept = (received: AgentEvent[]): boolean => {
    if (signal.aborted) return true
    const newEvents: AgentEvent[] = []
    let gap = false
    for (const event of received) {
      const isReset = event.type === "stream_reset"
      const seq = isReset ? event.run.lastSeq : event.seq
      if (!isReset && seq <= last) continue
      gap = !isReset && seq > last + 1
      if (gap) break // a broken stream: the missing events are in the log
      last = seq
      newEvents.push(event)
      ended = isReset ? isTerminal(event.run.status) : event.type === "agent_end"
    }
    if (newEvents.length) {
      backoff.reset()
      onEvents(newEvents)
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
          backoff.base = ms || backoff.base // a server's `retry: 0` does not remove the delay
        },
        onChunk: (events) => {
          clearTimeout(watchdog)
          watchdog = setTimeout(close, silence)
          return accept(events)
        },
      })
    } catch (cause) {
      if (signal.aborted) return
      // A stream that cannot be parsed is not agentkit's.
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
