import { type UseChatOptions, useChat } from "@agentkit/react"
import { Chat } from "@agentkit/react/core"
import { browserTabs } from "@agentkit/react/tabs"
import { StrictMode } from "react"
import { createRoot } from "react-dom/client"

const OPTIONS: UseChatOptions = { agent: "support", api: "/agents" }

function App() {
  const { messages, status, send } = useChat(OPTIONS)
  return (
    <button type="button" onClick={() => send("Hello")}>
      {status} {messages.length}
    </button>
  )
}

const alone = new Chat({ agent: "support", tabs: browserTabs() })
console.info(alone.getSnapshot().status)
createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <App />
  </StrictMode>,
)
