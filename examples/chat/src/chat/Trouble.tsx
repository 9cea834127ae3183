/** What is wrong with the chat's connection, its run or its last call, and what a person can do about it. */
import type { UseChatResult } from "@agentkit/react"
import { explain } from "../explain"
import { useServer } from "../server"

export function Trouble({ chat }: { chat: UseChatResult }) {
  const { error, status, refused, isOffline, isReconnecting } = chat
  useServer(error?.code === "unauthenticated" ? "/agents" : undefined) // which says where to log in
  const isRefused = refused !== undefined
  const rejoins = !isRefused && error && (error.status || error.code === "unreachable")
  return (
    <>
      {(isOffline || isReconnecting) && (
        <p className="trouble" role="status">
          {isOffline ? "You are offline." : "The connection is lost."} The run goes on without it;
          reconnecting …
        </p>
      )}
      {error && (
        <div className="trouble" role="alert">
          <p>{explain(error)}</p>
          {status === "error" && (
            <button type="button" onClick={rejoins ? chat.rejoin : chat.reload}>
              {isRefused ? "Send again" : "Try again"}
            </button>
          )}
        </div>
      )}
    </>
  )
}
