import { useChat } from "@ai-sdk/react"
import {
  DefaultChatTransport,
  isToolUIPart,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
  type UIMessage,
} from "ai"
import { useMemo, useState } from "react"

/** What agentkit says of a message's run, and of a decision that is more than yes or no. */
type Message = UIMessage<
  { runId?: string; status?: string; usage?: { totalTokens: number } },
  { decision: { state: string; decisionId: string; toolName: string; input: unknown } }
>

/** A chat with the agent `desk`. The server keeps it under `id`: with `resume` a reloaded page goes on with what runs. */
export function Chat({ url, id }: { url: string; id: string }) {
  const transport = useMemo(() => new DefaultChatTransport<Message>({ api: `${url}/ai-sdk/desk` }), [url])
  const chat = useChat<Message>({
    id,
    transport,
    resume: true,
    sendAutomaticallyWhen: (options) =>
      lastAssistantMessageIsCompleteWithApprovalResponses(options) ||
      lastAssistantMessageIsCompleteWithToolCalls(options),
    onToolCall({ toolCall }) {
      if (toolCall.toolName !== "locate") return // the others are the server's
      chat.addToolOutput({ tool: "locate", toolCallId: toolCall.toolCallId, output: "Bern" })
    },
  })
  const [text, setText] = useState("")
  const runId = chat.messages.at(-1)?.metadata?.runId

  /** A decision that is more than yes or no goes to the ordinary route; the stream then goes on. */
  async function assign(decisionId: string, who: string) {
    await fetch(`${url}/runs/${runId}/resume`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ decisionId, decision: { who } }),
    })
    await chat.resumeStream()
  }

  /** `stop` alone ends the stream, and the run goes on. */
  async function stop() {
    await fetch(`${url}/runs/${runId}/abort`, { method: "POST" })
    await chat.stop()
  }

  return (
    <main>
      <p role="status">{chat.error ? chat.error.message : chat.status}</p>
      {chat.messages.map((message) => (
        <section key={message.id} aria-label={message.role}>
          {message.parts.map((part, index) => {
            const key = `${message.id}-${index}`
            if (part.type === "text") return <p key={key}>{part.text}</p>
            if (part.type === "data-decision" && part.data.state === "pending") {
              return (
                <button
                  key={key}
                  type="button"
                  disabled={chat.status !== "ready"}
                  onClick={() => assign(part.data.decisionId, "ada")}
                >
                  To Ada
                </button>
              )
            }
            if (!isToolUIPart(part)) return null
            return (
              <div key={key}>
                <code>{JSON.stringify(part.input)}</code> {part.state}{" "}
                {part.state === "output-available" && String(part.output)}
                {part.state === "approval-requested" && (
                  <>
                    <button
                      type="button"
                      onClick={() => chat.addToolApprovalResponse({ id: part.approval.id, approved: true })}
                    >
                      Approve
                    </button>
                    <button
                      type="button"
                      onClick={() => chat.addToolApprovalResponse({ id: part.approval.id, approved: false })}
                    >
                      Refuse
                    </button>
                  </>
                )}
              </div>
            )
          })}
        </section>
      ))}
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void chat.sendMessage({ text })
          setText("")
        }}
      >
        <input aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} />
        <button type="submit">Send</button>
        <button type="button" onClick={stop}>
          Stop
        </button>
      </form>
    </main>
  )
}
