/** What TypeScript tells the people who use this package. */
import { describe, expectTypeOf, it } from "vitest"
import { Chat as CoreChat, fold, type RunState } from "../src/core/index"
import {
  type AgentEvent,
  type AgentKitError,
  type AssistantMessage,
  Chat,
  type ChatStatus,
  type Message,
  type PendingItem,
  type Usage,
  type UseChatResult,
  useChat,
} from "../src/index"

describe("useChat", () => {
  it("needs an agent, and knows its options", () => {
    expectTypeOf(useChat).toBeCallableWith({ agent: "a" })
    expectTypeOf(useChat).toBeCallableWith({
      agent: "a",
      api: "/agents",
      body: { model: "openai:x", metadata: { a: 1 }, limits: { maxTurns: 3 } },
      headers: async () => ({ Authorization: "Bearer x" }),
      credentials: "include",
      runId: undefined,
      initialMessages: [{ role: "user", content: "Hello" }],
      resumeApi: (runId: string) => `/answers/${runId}`,
      followDecisions: false,
      clientTools: { locate: async (input: { exact: boolean }) => (input.exact ? "here" : "there") },
    })
    // @ts-expect-error: no agent
    useChat({})
    // @ts-expect-error: no such option
    useChat({ agent: "a", url: "/" })
    // @ts-expect-error: no such limit
    useChat({ agent: "a", body: { limits: { maxDollars: 1 } } })
    // @ts-expect-error: an assistant's message is more than its text
    useChat({ agent: "a", initialMessages: [{ role: "assistant", content: "Hello" }] })
  })

  it("gives what the page shows", () => {
    expectTypeOf<UseChatResult["messages"]>().toEqualTypeOf<readonly Message[]>()
    expectTypeOf<UseChatResult["status"]>().toEqualTypeOf<ChatStatus>()
    expectTypeOf<ChatStatus>().toEqualTypeOf<"ready" | "submitted" | "streaming" | "paused" | "error">()
    expectTypeOf<UseChatResult["isStreaming"]>().toEqualTypeOf<boolean>()
    expectTypeOf<UseChatResult["pendingDecisions"]>().toEqualTypeOf<readonly PendingItem[]>()
    expectTypeOf<UseChatResult["pendingDecision"]>().toEqualTypeOf<PendingItem | undefined>()
    expectTypeOf<UseChatResult["error"]>().toEqualTypeOf<AgentKitError | undefined>()
    expectTypeOf<UseChatResult["runId"]>().toEqualTypeOf<string | undefined>()
    expectTypeOf<UseChatResult["usage"]>().toEqualTypeOf<Usage>()
  })

  it("gives methods that resolve to whether the server took it", () => {
    type Methods =
      | "send"
      | "edit"
      | "regenerate"
      | "fork"
      | "open"
      | "respondWithDecision"
      | "reject"
      | "abort"
      | "steer"
      | "followUp"
      | "reload"
    expectTypeOf<ReturnType<UseChatResult[Methods]>>().toEqualTypeOf<Promise<boolean>>()
    expectTypeOf<UseChatResult["send"]>().toBeCallableWith([{ type: "text", text: "Hello" }])
    expectTypeOf<UseChatResult["respondWithDecision"]>().toBeCallableWith(
      { approved: true },
      { toolCallId: "t" },
    )
    expectTypeOf<UseChatResult["reject"]>().toBeCallableWith("too much")
    expectTypeOf<UseChatResult["abort"]>().toBeCallableWith()
  })
})

describe("messages and events", () => {
  it("are told apart by role and type", () => {
    const message = {} as Message
    if (message.role === "assistant") expectTypeOf(message).toEqualTypeOf<AssistantMessage>()
    const event = {} as AgentEvent
    if (event.type === "agent_pause") expectTypeOf(event.pending).toEqualTypeOf<PendingItem[]>()
    if (event.type === "message_end") expectTypeOf(event.message).toEqualTypeOf<Message>()
    if (event.type !== "stream_reset") expectTypeOf(event.seq).toEqualTypeOf<number>()
    if (event.type === "tool_decision_pending")
      expectTypeOf(event.schema).toEqualTypeOf<Record<string, unknown>>()
  })

  it("fold with a pure function", () => {
    expectTypeOf(fold).toEqualTypeOf<(state: RunState, event: AgentEvent) => RunState>()
  })
})

it("the core is the same one", () => {
  expectTypeOf(Chat).toEqualTypeOf(CoreChat)
})
