/**
 * A run's events over one stream for all tabs of a browser, which opens six connections to a server at most.
 *
 * The rules that this file alone knows:
 *
 * 1. The tab that holds the run's Web Lock reads its stream and relays it over a BroadcastChannel. When that tab goes,
 *    the browser gives the lock to the next, which goes on from where it is itself.
 * 2. Every tab has its own position: what it has seen is dropped, and what it lacks it reads itself, up to what was relayed.
 * 3. A hidden tab may stand still. A visible one that gets no sign of life from the reader takes the lock from it.
 */
import type { Client } from "../core/client"
import { AgentKitError } from "../core/errors"
import { type Following, follow, Position } from "../core/follow"
import type { AgentEvent } from "../core/types"
import { SlottedClient } from "./slots"

/** How often a visible tab makes sure that the reader lives, and how long that has to answer: milliseconds. */
const CHECK = 2_000

interface Relayed {
  /** The reader is asked where it is. */
  ask?: true
  /** The reader's last seq. */
  at?: number
  /** Whether the server answers the reader. */
  isConnected?: boolean | undefined
  events?: AgentEvent[]
}

/** Does what `follow` does. Where the browser has no Web Locks (a page without TLS), each tab has a stream of its own. */
export function followTogether(client: Client, runId: string, following: Following): Promise<void> {
  const locks = globalThis.navigator?.locks
  if (!locks || typeof BroadcastChannel === "undefined") return follow(client, runId, following)
  return new SharedStream(client, runId, following, locks).follow()
}

class SharedStream {
  readonly #client: SlottedClient
  readonly #runId: string
  readonly #following: Following
  readonly #locks: LockManager
  readonly #name: string
  readonly #channel: BroadcastChannel
  readonly #position: Position
  /** Aborts when there is nothing more to read, or it is refused. */
  readonly #over = new AbortController()
  readonly #stop: AbortSignal
  #refusal: unknown
  #isReader = false
  #isConnected: boolean | undefined
  /** Ends the wait for the lock, to take it away. */
  #waiting = new AbortController()
  #catchingUp: AbortController | undefined
  /** The newest seq that the reader is known to have. */
  #target = 0
  /** When the reader was asked last, and when it last gave a sign of life. */
  #askedAt = 0
  #heardAt = 0

  constructor(client: Client, runId: string, following: Following, locks: LockManager) {
    this.#client = new SlottedClient(client, locks)
    this.#runId = runId
    this.#following = following
    this.#locks = locks
    this.#name = `agentkit.run.${runId}`
    this.#channel = new BroadcastChannel(this.#name)
    this.#position = new Position(following.after)
    this.#stop = AbortSignal.any([following.signal, this.#over.signal])
  }

  async follow(): Promise<void> {
    this.#channel.onmessage = ({ data }) => this.#receive(data)
    this.#post({ ask: true })
    const check = setInterval(() => this.#check(), CHECK)
    try {
      await this.#queue()
    } finally {
      clearInterval(check)
      this.#over.abort()
      this.#channel.close()
    }
    if (this.#refusal) throw this.#refusal
  }

  /** Waits to be the reader, and is it, until there is nothing more to read. */
  async #queue(): Promise<void> {
    let steal = false
    while (!this.#stop.aborted) {
      this.#waiting = new AbortController()
      const lost = new AbortController()
      const options = steal ? { steal } : { signal: AbortSignal.any([this.#stop, this.#waiting.signal]) }
      try {
        await this.#locks.request(this.#name, options, () =>
          this.#read(AbortSignal.any([this.#stop, lost.signal])),
        )
        return
      } catch (error) {
        if (error instanceof AgentKitError) throw error
        lost.abort() // another tab has taken the lock, or this one has given up waiting for it
        steal = this.#waiting.signal.aborted
      }
    }
  }

  async #read(signal: AbortSignal): Promise<void> {
    this.#isReader = true
    this.#catchingUp?.abort()
    try {
      await follow(this.#client, this.#runId, {
        ...this.#following,
        after: this.#position.last,
        signal,
        onEvents: (events) => {
          this.#post({ events })
          this.#deliver(events)
        },
        onConnection: (isConnected) => {
          if (!isConnected && this.#client.isWaiting) return
          this.#isConnected = isConnected
          this.#post({ isConnected, at: this.#position.last })
          this.#following.onConnection?.(isConnected)
        },
      })
    } finally {
      this.#isReader = false
    }
  }

  #post(message: Relayed): void {
    if (!this.#stop.aborted) this.#channel.postMessage(message)
  }

  #receive({ ask, at = 0, isConnected, events = [] }: Relayed): void {
    if (this.#stop.aborted) return
    if (ask) {
      if (this.#isReader) this.#post({ at: this.#position.last, isConnected: this.#isConnected })
      return
    }
    this.#heardAt = Date.now()
    if (this.#isReader) return // two readers for a moment: this one is about to lose the lock
    if (isConnected !== undefined) this.#following.onConnection?.(isConnected)
    const last = events.at(-1)
    const seq = last?.type === "stream_reset" ? last.run.lastSeq : (last?.seq ?? at)
    if (this.#deliver(events) || seq > this.#position.last) this.#catchUp(seq)
  }

  /** Passes on what is new. Returns whether something before it is missing. */
  #deliver(received: readonly AgentEvent[]): boolean {
    if (this.#stop.aborted) return false
    const { events, gap } = this.#position.take(received)
    if (events.length) this.#following.onEvents(events)
    if (this.#position.ended) this.#over.abort()
    return gap
  }

  /** Reads what is missing up to a seq, over a stream of its own that ends there. */
  #catchUp(seq: number): void {
    this.#target = Math.max(this.#target, seq)
    if (this.#catchingUp || this.#isReader) return
    const reading = new AbortController()
    this.#catchingUp = reading
    follow(this.#client, this.#runId, {
      after: this.#position.last,
      signal: AbortSignal.any([this.#stop, reading.signal]),
      onEvents: (events) => {
        this.#deliver(events)
        if (this.#position.last >= this.#target) reading.abort()
      },
    })
      .catch((error) => {
        this.#refusal = error
        this.#over.abort()
      })
      .finally(() => {
        this.#catchingUp = undefined
        if (reading.signal.aborted && this.#target > this.#position.last) this.#catchUp(this.#target)
      })
  }

  /** In a visible tab: asks the reader for a sign of life, and takes its place where it has not answered. */
  #check(): void {
    if (this.#isReader || document.hidden) {
      this.#askedAt = 0
      return
    }
    if (this.#askedAt > this.#heardAt) this.#waiting.abort()
    this.#askedAt = Date.now()
    this.#post({ ask: true })
  }
}
