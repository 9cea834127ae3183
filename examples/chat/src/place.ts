/** Where the page is: a run, or none. It stands in the URL as `?run=`, so that a reload or a link comes back to it. */
import { useCallback, useEffect, useState } from "react"

export interface Place {
  runId: string | undefined
  /** Another number is another conversation. */
  visit: number
}

export interface Places {
  place: Place
  /** To another conversation; without an id to a new one. */
  go: (runId?: string) => void
  /** The conversation here is in this run now. */
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
