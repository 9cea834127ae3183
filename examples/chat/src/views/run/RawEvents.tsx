/** The events of a run as they are on the wire, requested when they are to be shown, some at a time. */
import { type AgentEvent, follow } from "@agentkit/react"
import { useEffect, useState } from "react"
import { client } from "../../server"
import { Clipped } from "../parts/Clipped"

const SIZE = 100

export function RawEvents({ runId, lastSeq }: { runId: string; lastSeq: number }) {
  const [isOpen, setOpen] = useState(false)
  return (
    <details className="raw" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Raw events ({lastSeq.toLocaleString("en")})</summary>
      {isOpen && <Events runId={runId} lastSeq={lastSeq} />}
    </details>
  )
}

function Events({ runId, lastSeq }: { runId: string; lastSeq: number }) {
  const [events, setEvents] = useState<readonly AgentEvent[]>([])
  const [wanted, setWanted] = useState(SIZE)
  const last = seqOf(events.at(-1))
  const isDue = last < lastSeq && events.length < wanted
  useEffect(() => {
    if (!isDue) return
    const reading = new AbortController()
    let more: AgentEvent[] = []
    const onEvents = (received: AgentEvent[]) => {
      more = [...more, ...received]
      if (events.length + more.length < wanted && seqOf(more.at(-1)) < lastSeq) return
      reading.abort()
      setEvents([...events, ...more].slice(0, wanted))
    }
    follow(client, runId, { after: last, signal: reading.signal, onEvents }).catch(() => {})
    return () => reading.abort()
  }, [runId, lastSeq, last, wanted, isDue, events])
  return (
    <>
      <ol className="rows">
        {events.map((event) => (
          <li key={`${event.type} ${seqOf(event)}`} className="row">
            <p>
              <b>{seqOf(event)}</b> <code>{event.type}</code>{" "}
              {"timestamp" in event && (
                <time className="faint" dateTime={new Date(event.timestamp).toISOString()}>
                  {new Date(event.timestamp).toLocaleTimeString()}
                </time>
              )}
            </p>
            <code className="json">
              <Clipped text={JSON.stringify(event)} />
            </code>
          </li>
        ))}
      </ol>
      {last < lastSeq && (
        <button type="button" disabled={isDue} onClick={() => setWanted(wanted + SIZE)}>
          {isDue ? "One moment …" : "Show more"}
        </button>
      )}
    </>
  )
}

function seqOf(event: AgentEvent | undefined): number {
  if (!event) return 0
  return event.type === "stream_reset" ? event.run.lastSeq : event.seq
}
