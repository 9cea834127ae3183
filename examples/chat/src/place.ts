/** Which run the page shows, if any. It is in the URL as `?run=`, so that a reload or a link leads back to it. */
import { useCallback, useEffect, useState } from "react"

export interface Place {
  runId: string | undefined
  /** Changes with the conversation. */
  visit: number
}

export interface Places {
  place: Place
  /** Opens another conversation; without an id a new one. */
  go: (runId?: string) => void
  /** Notes that the open conversation has gone on to this run. */
  stay: (runId: string) => void
}

export function usePlace(): Places {
  const [place, setPlace] = useState<Place>(() => ({ runId: read(), visit: 0 }))
  const visit = useCallback(
    (runId: string | undefined) => setPlace((before) => ({ runId, visit: before.visit + 1 })),
    [],
  )
  useEffect(() => {
    const back = () => visit(read())
    addEventListener("popstate", back)
    return () => removeEventListener("popstate", back)
  }, [visit])
  const go = useCallback(
    (runId?: string) => {
      history.pushState(null, "", url(runId))
      visit(runId)
    },
    [visit],
  )
  const stay = useCallback((runId: string) => {
    if (runId !== read()) history.replaceState(null, "", url(runId))
    setPlace((before) => (before.runId === runId ? before : { ...before, runId }))
  }, [])
  return { place, go, stay }
}

function read(): string | undefined {
  return new URLSearchParams(location.search).get("run") ?? undefined
}

export function url(runId?: string): string {
  return runId ? `${location.pathname}?run=${encodeURIComponent(runId)}` : location.pathname
}
