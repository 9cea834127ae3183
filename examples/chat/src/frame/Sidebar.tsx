/** The menu; recent runs, newest first, one line per conversation; the server's health, and links. */
import { useEffect, useRef } from "react"
import { ExactText } from "../content/Exact"
import { Icon } from "../icons"
import { API, type ListedRun, type Readiness, useServer } from "../server"
import { ago, STATUS, titleOf } from "../text"
import { Menu } from "./Menu"
import { Link, useNavigation } from "./navigation"

interface Props {
  isOpen: boolean
  /** Who is logged in, where the server asks for that. */
  principal: string | undefined
  onClose: () => void
}

export function Sidebar({ isOpen, principal, onClose }: Props) {
  const { place, go } = useNavigation()
  const runId = place.view === "chat" ? place.runId : undefined
  const { data } = useServer<{ runs: ListedRun[] }>("/runs?limit=50", 4000, runId)
  const { data: ready, failure } = useServer<Readiness>("/readyz", 8000)
  const runs = latest(data?.runs ?? [])
  const closer = useRef<HTMLButtonElement>(null)
  useEffect(() => {
    if (isOpen) closer.current?.focus()
  }, [isOpen])
  return (
    <>
      <button
        type="button"
        className="veil"
        tabIndex={-1}
        hidden={!isOpen}
        aria-label="Close"
        onClick={onClose}
      />
      <aside className={isOpen ? "side open" : "side"} aria-label="Menu">
        <div className="side-head">
          <span className="brand">agentkit</span>
          <button type="button" className="ghost only-phone" ref={closer} onClick={onClose}>
            <Icon name="close" />
            <span className="hidden">Close</span>
          </button>
        </div>
        <button type="button" className="new" onClick={() => go({ view: "chat" })}>
          <Icon name="plus" /> New chat
        </button>
        <Menu />
        <nav className="runs" aria-label="Recent runs">
          {runs.map((run) => (
            <Link
              key={run.id}
              to={{ view: "chat", runId: run.id }}
              className="run"
              aria-current={run.id === runId ? "page" : undefined}
            >
              <span className={`dot ${run.status}`} title={STATUS[run.status]} />
              <span className="run-title" dir="auto">
                <ExactText text={titleOf(run)} />
              </span>
              <span className="run-note">
                {run.status === "completed" ? run.agent : STATUS[run.status]} · {ago(run.updatedAt)}
              </span>
            </Link>
          ))}
          {data && !runs.length && <p className="faint">No runs yet.</p>}
        </nav>
        <footer className="links">
          {principal && (
            <p className="who">
              Logged in as <b>{principal}</b>
            </p>
          )}
          <span className="health">
            <span
              className={`dot ${failure !== undefined ? "failed" : lacks(ready) ? "paused" : "completed"}`}
            />
            {healthOf(ready, failure)}
          </span>
          {["agents", "runs", "openapi.json", "readyz", "metrics"].map((path) => (
            <a key={path} href={`${API}/${path}`}>
              {path}
            </a>
          ))}
        </footer>
      </aside>
    </>
  )
}

/** The newest run of each conversation. Sub-agents' runs are shown in those that started them. */
function latest(runs: ListedRun[]): ListedRun[] {
  const seen = new Set<unknown>()
  return runs.filter((run) => {
    const { chat } = run.metadata
    if (run.parentRunId || (chat && seen.has(chat))) return false
    seen.add(chat)
    return true
  })
}

function healthOf(ready: Readiness | undefined, failure: number | undefined): string {
  if (failure !== undefined) return "No connection"
  return ready ? lacks(ready) || "Ready" : "…"
}

function lacks(ready: Readiness | undefined): string {
  const missing = Object.entries(ready?.checks ?? {}).filter(([, isUp]) => !isUp)
  return missing.length ? `Not ready: no ${missing.map(([name]) => name).join(", no ")}` : ""
}
