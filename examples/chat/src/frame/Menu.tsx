/** The menu of views, with how many items wait for an answer: there, and in the title of the browser's tab. */
import type { PendingCount } from "@agentkit/react"
import { useEffect } from "react"
import { useServer } from "../server"
import { MENU } from "../views"
import { useAnswerCount } from "./answers"
import { Link, useNavigation } from "./navigation"

const EVERY = 10_000

export function Menu() {
  const { place } = useNavigation()
  const { data } = useServer<PendingCount>("/decisions/count", EVERY, useAnswerCount())
  const waiting = data?.pending ? `${data.pending}${data.more ? "+" : ""}` : ""
  const name = MENU.find(({ view }) => view === place.view)?.name ?? (place.view === "run" ? "Run" : "")
  useEffect(() => {
    document.title = `${waiting && `(${waiting}) `}${name && `${name} · `}agentkit`
  }, [waiting, name])
  return (
    <nav className="menu" aria-label="Views">
      {MENU.map(({ view, name }) => (
        <Link key={view} to={{ view }} aria-current={place.view === view ? "page" : undefined}>
          {name}
          {view === "waiting" && waiting && (
            <span className="badge">
              {waiting}
              <span className="hidden"> to be answered</span>
            </span>
          )}
        </Link>
      ))}
    </nav>
  )
}
