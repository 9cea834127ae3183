import { HttpAgent, type Interrupt, type Message, type ResumeEntry } from "@ag-ui/client"

const TOOLS = [
  {
    name: "locate",
    description: "Where the user is.",
    parameters: { type: "object", properties: {} },
  },
]

/** What the page asks a person, and what it does itself. */
export interface Page {
  decide(interrupt: Interrupt): Promise<ResumeEntry>
  locate(): Promise<string>
  show(messages: readonly Message[]): void
}

/** A conversation with the agent `desk`. The server keeps it under `threadId`: a reloaded page goes on with `open()`. */
export function converse(url: string, threadId: string, page: Page) {
  const agent = new HttpAgent({ url: `${url}/ag-ui/desk`, threadId })
  agent.subscribe({ onMessagesChanged: ({ messages }) => page.show(messages) })

  /** Run until nothing waits: for a person, who is asked, or for a tool of this page, which is executed. */
  async function run(resume?: ResumeEntry[]): Promise<void> {
    await agent.runAgent({ tools: TOOLS, ...(resume ? { resume } : {}) })
    if (agent.pendingInterrupts.length > 0) {
      const answers: ResumeEntry[] = []
      for (const interrupt of agent.pendingInterrupts) answers.push(await page.decide(interrupt))
      return run(answers)
    }
    const calls = unanswered(agent.messages)
    if (calls.length === 0) return
    for (const toolCallId of calls) {
      agent.addMessage({ id: crypto.randomUUID(), role: "tool", toolCallId, content: await page.locate() })
    }
    return run()
  }

  return {
    agent,
    /** Say something. */
    say(text: string): Promise<void> {
      agent.addMessage({ id: crypto.randomUUID(), role: "user", content: text })
      return run()
    },
    /** After a reload: the conversation so far, and whatever goes on or waits in it. */
    open(): Promise<void> {
      return run()
    },
    /** End the run. Leaving the page, or `agent.abortRun()`, only ends the stream: the run goes on. */
    async stop(): Promise<void> {
      await fetch(`${url}/runs/${agent.state.agentkit.runId}/abort`, { method: "POST" })
    },
  }
}

/** The calls of this page's tools that nobody has answered. */
function unanswered(messages: Message[]): string[] {
  const answered = new Set(messages.map((message) => (message.role === "tool" ? message.toolCallId : "")))
  return messages
    .flatMap((message) => (message.role === "assistant" ? (message.toolCalls ?? []) : []))
    .filter((call) => call.function.name === "locate" && !answered.has(call.id))
    .map((call) => call.id)
}
