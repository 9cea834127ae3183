/**
 * A run's events, each once and in order, however often the connection breaks. It knows seqs and which event is the
 * last; it must not know what events mean for a page.
 */
import type { Client } from "./client"
import { AgentKitError, notAgentKit } from "./errors"
import { isTerminal } from "./fold"
import { watchNetwork } from "./network"
import { readSse } from "./sse"
import type { AgentEvent } from "./types"
import { Backoff, sleep } from "./wait"

/** A server sends at least a comment every 15 s: a stream that is silent for longer, in milliseconds, is reconnected. */
const SILENCE = 20_000
/** A page that was hidden reconnects a stream that has been silent for so long: it may have died unnoticed. */
const HIDDEN_SILENCE = 5_000

export interface Following {
  /** The last seq that the reader has. */
  after: number
  /** Ends the reading: from this moment on no callback is called. */
  signal: AbortSignal
  /** The events of one chunk, in order. */
  onEvents(events: AgentEvent[]): void
  /** Whether the server answers. */
  onConnection?(connected: boolean): void
  /** Milliseconds without a byte after which a stream is reconnected (20,000). */
  silence?: number
}

/** Which events a reader has: it takes each once and in order. */
export class Position {
  /** The last seq. */
  last: number
  /** The run's last event was taken. */
  ended = false

  constructor(after: number) {
    this.last = after
  }

  /** Returns the events that come next; with `gap`, others must come before the rest. */
  take(received: readonly AgentEvent[]): { events: AgentEvent[]; gap: boolean } {
    const events: AgentEvent[] = []
    for (const event of received) {
      const isReset = event.type === "stream_reset"
      const seq = isReset ? event.run.lastSeq : event.seq
      if (seq < this.last || (seq === this.last && !isReset)) continue
      if (!isReset && seq > this.last + 1) return { events, gap: true }
      this.last = seq
      events.push(event)
      this.ended = isReset ? isTerminal(event.run.status) : event.type === "agent_end"
    }
    return { events, gap: false }
  }
}

/** Resolves after the run's last event, or when aborted. Rejects with the AgentKitError of a server that refuses. */
export async function follow(
  client: Pick<Client, "events" | "retry">,
  runId: string,
  following: Following,
): Promise<void> {
  const { signal, onEvents, onConnection, silence = SILENCE } = following
  const backoff = new Backoff(client.retry)
  const position = new Position(following.after)

  /** Returns whether the reading is to stop: at the end, or at a broken stream, whose missing events are in the log. */
  const accept = (received: AgentEvent[]): boolean => {
    if (signal.aborted) return true
    const { events, gap } = position.take(received)
    if (events.length) {
      backoff.reset()
      onEvents(events)
    }
    return gap || position.ended || signal.aborted
  }

  while (!signal.aborted) {
    let wait: number | undefined
    let isChecked = false
    let lastByte = Date.now()
    const connection = new AbortController()
    const close = () => connection.abort()
    let watchdog = setTimeout(close, silence)
    // A connection that may be dead is made anew: at once, and whether that succeeds says what is true.
    const unwatch = watchNetwork((change) => {
      if (change === "visibilitychange" && Date.now() - lastByte < HIDDEN_SILENCE) return
      isChecked = true
      close()
    })
    try {
      const body = await client.events(runId, position.last, AbortSignal.any([signal, connection.signal]))
      if (!body || signal.aborted) return
      onConnection?.(true)
      await readSse<AgentEvent>(body, {
        onRetry: (ms) => {
          backoff.base = ms || backoff.base // a server's `retry: 0` does not remove the delay
        },
        onChunk: (events) => {
          clearTimeout(watchdog)
          watchdog = setTimeout(close, silence)
          lastByte = Date.now()
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
      unwatch()
      close()
    }
    if (position.ended || signal.aborted) return
    if (isChecked) continue
    onConnection?.(false)
    await sleep(backoff.next(wait), signal, !wait)
  }
}
