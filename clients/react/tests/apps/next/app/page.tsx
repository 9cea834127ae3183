"use client"
import { useChat } from "@agentkit/react"
import { useEffect } from "react"

export default function Page() {
  const chat = useChat({ agent: "support", runId: () => new URL(location.href).searchParams.get("run") })
  useEffect(() => {
    if (chat.runId) history.replaceState(null, "", `?run=${chat.runId}`)
  }, [chat.runId])
  return (
    <main>
      <p>status: {chat.status}</p>
      <button type="button" onClick={() => chat.send("Hello")}>
        Send
      </button>
    </main>
  )
}
