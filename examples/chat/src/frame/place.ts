/**
 * Which view the page shows, and of which run. It is in the URL, so that a reload, a link and the back button lead there:
 * a chat is `?run=ID` (or nothing), every other view is in the fragment, `#/runs?status=failed`. No server and no proxy
 * has to know any of these paths.
 */

export type ViewName = "chat" | "waiting" | "runs" | "run" | "system"

/** Where a link leads. */
export interface Target {
  view: ViewName
  /** Of the views `chat` and `run`. */
  runId?: string | undefined
  /** What a view keeps in the URL, such as its filters. */
  query?: Record<string, string>
}

/** Returns the URL of a view, from the path on. */
export function urlOf({ view, runId, query }: Target): string {
  const path = location.pathname
  if (view === "chat") return runId ? `${path}?${new URLSearchParams({ run: runId })}` : path
  const part = view === "run" ? `runs/${encodeURIComponent(runId ?? "")}` : view
  const search = new URLSearchParams(query).toString()
  return `${path}#/${part}${search && `?${search}`}`
}

/** Returns the view that a URL names; the chat where it names none that there is. */
export function targetOf({ search, hash }: Pick<Location, "search" | "hash">): Target {
  const [, name, id, , text = ""] = /^#\/([a-z]+)(?:\/([^/?]+))?(\?(.*))?$/.exec(hash) ?? []
  const query = Object.fromEntries(new URLSearchParams(text))
  if (name === "runs" && id) return { view: "run", runId: decoded(id), query }
  if (name === "waiting" || name === "runs" || name === "system") return { view: name, query }
  return { view: "chat", runId: new URLSearchParams(search).get("run") ?? undefined }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
