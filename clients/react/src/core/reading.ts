/** Reads a session's run while somebody reads the chat: its snapshot, its log, and what came before it. */
import type { Client } from "./client"
import { logOf, runsBefore } from "./earlier"
import type { ChatOptions, Tabs } from "./options"
import type { Session } from "./session"
import type { AgentEvent } from "./types"

/** The chat that reads. */
export interface ReadingHost {
  readonly client: Client
  options(): ChatOptions
  /** Somebody subscribes to the chat. */
  hasReaders(): boolean
  emit(): void
  readonly follow: Tabs["follow"]
  /** The run is loaded. */
  onJoined(session: Session): void
  /** The session has taken these events, and the page has not seen them yet. */
  onEvents(session: Session, events: readonly AgentEvent[]): void
  /** The server does not show the run. */
  onRefused(session: Session, error: unknown): void
}

/** Reads events if there are readers, and events to come; with `always`, past a pause too. */
export function startReading(host: ReadingHost, session: Session, always = false): void {
  const { runId, isBusy, reading } = session
  const isRead = reading && !reading.signal.aborted
  if (!runId || !isBusy || isRead || !host.hasReaders() || (!always && staysPaused(host, session))) return
  const controller = new AbortController()
  session.reading = controller
  read(host, session, runId, controller.signal)
    .catch((error) => {
      if (controller.signal.aborted) return
      controller.abort() // before `onError`, which may call `rejoin` at once
      host.onRefused(session, error)
    })
    .finally(() => controller.abort())
}

/**
 * Reads, once, what a joined run does not carry: executions and answers, with which message it began, and the runs of
 * the conversation before those that are known. Never rejects.
 */
export function loadRest({ client, emit }: ReadingHost, session: Session): Promise<void> {
  const load = async () => {
    const { runId, ended, isBounded } = session
    if (runId && ended && !isBounded) {
      session.complete(await logOf(client, runId))
      emit()
    }
    for await (const run of runsBefore(client, session.firstOrigin)) {
      session.addEarlier(run)
      emit()
    }
  }
  session.rest ??= load().catch(() => {}) // they may be gone, or not be the caller's to read
  return session.rest
}

/** Whether the run is at a pause past which it is not followed. */
function staysPaused({ options }: ReadingHost, { seq, view }: Session): boolean {
  return options().followDecisions === false && seq >= view.seq && view.status === "paused"
}

async function read(host: ReadingHost, session: Session, runId: string, signal: AbortSignal): Promise<void> {
  const { client, emit } = host
  const onConnection = (connected: boolean) => {
    if (!signal.aborted && session.reconnecting === connected) {
      session.reconnecting = !connected
      emit()
    }
  }
  if (!session.isKnown) {
    const run = await client.get(runId, signal, () => onConnection(false))
    if (signal.aborted) return
    session.join(run)
    emit()
    host.onJoined(session)
    if (session.ended) return
  }
  const onEvents = (events: AgentEvent[]) => {
    const newEvents = session.apply(events)
    if (session.ended || staysPaused(host, session)) session.reading?.abort()
    emit()
    host.onEvents(session, newEvents)
  }
  await host.follow(client, runId, { after: session.seq, signal, onEvents, onConnection })
}
