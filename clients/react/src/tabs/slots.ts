/**
 * How many streams a browser has open to read runs from: four of the six connections that it makes to a server over
 * HTTP/1.1, whatever the number of tabs and runs, so that pages still load and answers are still sent. Each stream holds
 * one of four Web Locks. Where all are held, a tab asks now and then whether its run has got on, and only then for a place:
 * a stream without events gives way, and a hidden one to a visible one in any case.
 */
import type { Client } from "../core/client"
import { AgentKitError, unreachable } from "../core/errors"
import { isTerminal } from "../core/fold"
import { sleep } from "../core/wait"

const SLOTS = [0, 1, 2, 3].map((number) => `agentkit.stream.${number}`)
const CHANNEL = "agentkit.streams"
/** A stream without events for so long gives way, in milliseconds. */
const IDLE = 500
/** How often a tab that waits for a place says so. */
const ASK = 1_000
/** A visible tab takes the place of a stream that has not given way for so long: its tab stands still, or has a lot to read. */
const STEAL_AFTER = 5_000
/** How often a tab without a place asks for its run: a visible one, and a hidden one. */
const POLL = 1_000
const POLL_HIDDEN = 10_000
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
  readonly #client: EventClient & Pick<Client, "get">
  readonly #locks: LockManager
  /** There is no stream now because others have the places: the server is there all the same. */
  isWaiting = false

  constructor(client: EventClient & Pick<Client, "get">, locks: LockManager) {
    this.#client = client
    this.#locks = locks
  }

  get retry(): EventClient["retry"] {
    return this.#client.retry
  }

  async events(runId: string, after: number, signal: AbortSignal): ReturnType<Client["events"]> {
    let slot: Slot | undefined
    try {
      slot = (await freeSlot(this.#locks)) ?? (await this.#wait(runId, after, signal))
      this.isWaiting = false
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

  /** Waits until the run has got on, and then for a slot. */
  async #wait(runId: string, after: number, signal: AbortSignal): Promise<Slot> {
    this.isWaiting = true
    for (;;) {
      const { lastSeq, status } = await this.#client.get(runId, signal, () => {
        this.isWaiting = false
      })
      this.isWaiting = true
      if (lastSeq > after || isTerminal(status)) return takeSlot(this.#locks, signal)
      await sleep(document.hidden ? POLL_HIDDEN : POLL, signal, true)
      const slot = await freeSlot(this.#locks)
      if (slot) return slot
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
      const isIdle = Date.now() - readAt > IDLE
      const givesWay = document.hidden ? isIdle || data.isVisible : isIdle && data.isVisible
      if (data.slot !== slot.name || !givesWay) return
      this.isWaiting = true
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

async function freeSlot(locks: LockManager): Promise<Slot | undefined> {
  for (const name of SLOTS) {
    const slot = await hold(locks, name, { ifAvailable: true })
    if (slot) return slot
  }
  return undefined
}

/** Asks for a slot until there is one. Throws where the signal aborts. */
async function takeSlot(locks: LockManager, signal: AbortSignal): Promise<Slot> {
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
