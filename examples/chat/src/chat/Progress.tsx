/** What the run is doing, while it is doing something. */
import type { UseChatResult } from "@agentkit/react"

export function Progress({ chat }: { chat: UseChatResult }) {
  const { isStreaming, status, retry } = chat
  if (!isStreaming) return null
  return (
    <p className="going">
      <span className="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {retry
        ? `The model failed (${retry.error}). Asking again, attempt ${retry.attempt + 1} of ${retry.maxAttempts} …`
        : status === "submitted"
          ? "Waiting for a worker …"
          : ""}
    </p>
  )
}
