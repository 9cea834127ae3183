/** What can be done with a run as a whole: open it as a chat, stop it, try it again. */
import { useState } from "react"
import { Link } from "../../frame/navigation"
import type { Run } from "../../server"

interface Props {
  run: Run
  isOpen: boolean
  onAbort: () => Promise<void>
  onRetry: () => Promise<void>
}

export function Commands({ run, isOpen, onAbort, onRetry }: Props) {
  const [isAsking, setAsking] = useState(false)
  const [isBusy, setBusy] = useState(false)
  const once = async (command: () => Promise<void>) => {
    if (isBusy) return
    setBusy(true)
    await command()
    setBusy(false)
    setAsking(false)
  }
  return (
    <div className="actions">
      <Link className="button" to={{ view: "chat", runId: run.id }}>
        Open the chat
      </Link>
      {isOpen && !isAsking && (
        <button type="button" onClick={() => setAsking(true)}>
          Stop …
        </button>
      )}
      {isOpen && isAsking && (
        <>
          <button
            type="button"
            className="danger"
            // biome-ignore lint/a11y/noAutofocus: it takes the place of the button that the person has just pressed
            autoFocus
            aria-disabled={isBusy}
            onClick={() => once(onAbort)}
          >
            Stop it for good
          </button>
          <button type="button" onClick={() => setAsking(false)}>
            Let it go on
          </button>
        </>
      )}
      {(run.status === "failed" || run.status === "aborted") && (
        <button type="button" aria-disabled={isBusy} onClick={() => once(onRetry)}>
          Try again in a new run
        </button>
      )}
    </div>
  )
}
