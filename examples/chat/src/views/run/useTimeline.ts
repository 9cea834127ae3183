/**
 * Reads a run's events up to where the run is, again each time that it has gone on. Requests end, so that any number of tabs
 * leaves the browser connections for others.
 */
import { follow } from "@agentkit/react"
import { useEffect, useRef, useState } from "react"
import { client } from "../../server"
import { Timeline } from "./timeline"

/** Events that are read at the most: a timeline of more could not be read by a person, nor shown by a browser. */
const MAX = 50_000

export interface ShownTimeline {
  timeline: Timeline
  /** There are more events than are read. */
  isCut: boolean
  /** The events could not be read. */
  hasFailed: boolean
}

/** `lastSeq`: that of the run as it was last read; undefined as long as it was not. */
export function useTimeline(runId: string, lastSeq: number | undefined): ShownTimeline {
  const timeline = useRef(new Timeline())
  const [hasFailed, setFailed] = useState(false)
  const [, setSeq] = useState(0)
  useEffect(() => {
    const { current } = timeline
    if (lastSeq === undefined || current.seq >= lastSeq || current.seq >= MAX) return
    const reading = new AbortController()
    const onEvents = (events: Parameters<Timeline["add"]>[0][]) => {
      for (const event of events) current.add(event)
      if (current.seq < lastSeq && current.seq < MAX) return
      reading.abort()
      setSeq(current.seq)
    }
    follow(client, runId, { after: current.seq, signal: reading.signal, onEvents })
      .then(() => setSeq(current.seq))
      .catch(() => setFailed(true))
    return () => reading.abort()
  }, [runId, lastSeq])
  return { timeline: timeline.current, isCut: timeline.current.seq >= MAX, hasFailed }
}
