/** A chat on a fake server, with everything written down that it tells. */
import { onTestFinished, vi } from "vitest"
import { Chat } from "../src/core/chat"
import type { ChatOptions, ChatStatus } from "../src/core/options"
import type { Message } from "../src/core/types"
import { type FakeServer, QUICK } from "./server"
import { eventually } from "./waiting"

export function callbacks() {
  return {
    onMessage: vi.fn<NonNullable<ChatOptions["onMessage"]>>(),
    onEvent: vi.fn<NonNullable<ChatOptions["onEvent"]>>(),
    onFinish: vi.fn<NonNullable<ChatOptions["onFinish"]>>(),
    onDecisionPending: vi.fn<NonNullable<ChatOptions["onDecisionPending"]>>(),
    onError: vi.fn<NonNullable<ChatOptions["onError"]>>(),
  }
}

export function open(server: FakeServer, options: Partial<ChatOptions> = {}) {
  const told = callbacks()
  const chat = new Chat({ api: server.url, agent: "a", retry: QUICK, ...told, ...options })
  const statuses: ChatStatus[] = []
  const changed = vi.fn(() => {
    const { status } = chat.getSnapshot()
    if (statuses.at(-1) !== status) statuses.push(status)
  })
  const leave = chat.subscribe(changed)
  onTestFinished(leave)
  const reaches = (status: ChatStatus) =>
    eventually(() => {
      const now = chat.getSnapshot()
      if (now.status !== status) throw new Error(`the chat is ${now.status}, ${now.error}`)
      return now
    })
  return { chat, told, statuses, changed, leave, reaches, now: () => chat.getSnapshot() }
}

/** Messages without times, which are the server's and the page's own. */
export function said(messages: readonly Message[]): unknown[] {
  return messages.map(({ role, content }) => ({ role, content }))
}
