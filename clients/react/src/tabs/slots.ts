/**
 * How many streams a browser has open to read runs from: three of the six connections that it makes to a server over
 * HTTP/1.1, whatever the number of tabs and runs, so that pages still load and answers are still sent. Each stream holds
 * one of three Web Locks. Where all are held, streams take turns: a hidden one gives way, and to a visible one also one
 * that has nothing to read.
 */
import type { Client } from "../core/client"
import { AgentKitError, unreachable } from "../core/errors"
import { sleep } from "../core/wait"

const SLOTS = ["agentkit.stream.0", "agentkit.stream.1", "agentkit.stream.2"]
const CHANNEL = "agentkit.streams"
/** A stream without events for so long has nothing to read, in milliseconds. */
const IDLE = 500
/** How often a tab that waits says so. */
const ASK = 1_000
/** A visible tab takes the place of a stream that has not given way for so long: its tab stands still. */
const STEAL_AFTER = 5_000
/** A hidden tab that gave way waits for so long before it wants to read again. */
const PAUSE = 5_000
/** ":", with which a comment begins: what is sent to keep the connection alive. */
const COLON = 58

/** The part of a client that reads events. */
export type EventClient = Pick<Client, "events" | "retry">

/** Somebody waits for a slot. */
interface Ask {
  slot: string
  isVisible: boolean
}

interface Slot {
  name: string
  /** Aborts when another tab has taken it. */
  lost: AbortSignal
  release(): void
}

export class SlottedClient implements EventClient {
  readonly #client: EventClient
  readonly #locks: LockManager
  /** The last stream ended because it gave way to another. */
  hasYielded = false

  constructor(client: EventClient, locks: LockManager) {
    this.#client = client
    this.#locks = locks
  }

  get retry(): EventClient["retry"] {
    return this.#client.retry
  }

  async events(runId: string, after: number, signal: AbortSignal): ReturnType<Client["events"]> {
    if (this.hasYielded && document.hidden) await sleep(PAUSE, signal, true)
    this.hasYielded = false
    let slot: Slot | undefined
    try {
      slot = await takeSlot(this.#locks, signal)
      const end = new AbortController()
      const body = await this.#client.events(runId, after, AbortSignal.any([signal, end.signal, slot.lost]))
      if (body) return this.#held(body, slot, end)
      slot.release()
      return undefined
    } catch (error) {
      slot?.release()
      throw error instanceof AgentKitError ? error : unreachable(error) // the wait for the slot was aborted
    }
  }

  /** The same bytes; the slot is held until they end, the reader leaves, or another stream is to have it. */
  #held(body: ReadableStream<Uint8Array>, slot: Slot, end: AbortController): ReadableStream<Uint8Array> {
    const bytes = body.getReader()
    const channel = new BroadcastChannel(CHANNEL)
    let readAt = Date.now()
    const close = () => {
      end.abort()
      channel.close()
      slot.release()
    }
    channel.onmessage = ({ data }: { data: Ask }) => {
      const givesWay = document.hidden || (data.isVisible && Date.now() - readAt > IDLE)
      if (data.slot !== slot.name || !givesWay) return
      this.hasYielded = true
      close()
    }
    return new ReadableStream({
      async pull(controller) {
        const { value } = await bytes.read().catch(() => ({ value: undefined }))
        if (value) {
          if (value[0] !== COLON) readAt = Date.now()
          controller.enqueue(value)
        } else {
          close()
          controller.close()
        }
      },
      cancel: close,
    })
  }
}

/** Waits for a free slot. Throws where the signal aborts. */
async function takeSlot(locks: LockManager, signal: AbortSignal): Promise<Slot> {
  for (const name of SLOTS) {
    const slot = await hold(locks, name, { ifAvailable: true })
    if (slot) return slot
  }
  const name = SLOTS[Math.floor(Math.random() * SLOTS.length)] as string
  const channel = new BroadcastChannel(CHANNEL)
  const ask = () => channel.postMessage({ slot: name, isVisible: !document.hidden } satisfies Ask)
  const asking = setInterval(ask, ASK)
  const overdue = new AbortController()
  const timer = setTimeout(() => document.hidden || overdue.abort(), STEAL_AFTER)
  ask()
  try {
    return (await hold(locks, name, { signal: AbortSignal.any([signal, overdue.signal]) })) as Slot
  } catch (error) {
    if (signal.aborted || !overdue.signal.aborted) throw error
    return (await hold(locks, name, { steal: true })) as Slot
  } finally {
    clearInterval(asking)
    clearTimeout(timer)
    channel.close()
  }
}

/** Takes a lock; undefined where it has to be available and is not. */
function hold(locks: LockManager, name: string, options: LockOptions): Promise<Slot | undefined> {
  return new Promise((resolve, reject) => {
    const lost = new AbortController()
    const held = (lock: Lock | null) => {
      if (lock) return new Promise<void>((release) => resolve({ name, lost: lost.signal, release }))
      resolve(undefined)
      return undefined
    }
    locks.request(name, options, held).catch((error) => {
      lost.abort()
      reject(error)
    })
  })
}
