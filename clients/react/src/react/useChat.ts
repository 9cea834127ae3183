/**
 * The hook: a chat of the core, read through `useSyncExternalStore`. The core does the work; this file
 * knows only when a component is mounted. Subscribing makes a chat follow its run, so that StrictMode's second mount goes
 * on where the first ended, and a server, which never subscribes, makes no request.
 */
import { useEffect, useMemo, useState, useSyncExternalStore } from "react"
import { Chat } from "../core/chat"
import type { ChatOptions, ChatSnapshot } from "../core/options"
import type { PendingItem, ToolDefinition } from "../core/types"
import { browserTabs } from "../tabs/index"
import { definitionOf } from "./definitions"

export interface UseChatOptions extends Omit<ChatOptions, "tabs"> {
  /**
   * Whether the tabs of the browser share one connection for each run, and go on together where one of them has gone on
   * with the conversation (true). For pages on which tabs may belong to different people: false. Read once.
   */
  acrossTabs?: boolean
}

const METHODS = [
  "send",
  "edit",
  "regenerate",
  "fork",
  "open",
  "respondWithDecision",
  "reject",
  "abort",
  "steer",
  "followUp",
  "reload",
  "rejoin",
] as const

export type UseChatResult = ChatSnapshot &
  Pick<Chat, (typeof METHODS)[number]> & {
    /** Resolves to the definition of the tool that an item calls: that of the agent whose run it is, a sub-agent's too. */
    definitionOf: (item: PendingItem) => Promise<ToolDefinition | undefined>
  }

/**
 * A conversation with an agent. `runId` and `initialMessages` are read at the first render; give the component
 * another `key` for another conversation. All other options may change at any time.
 */
export function useChat(options: UseChatOptions): UseChatResult {
  const [chat] = useState(() => new Chat({ ...options, tabs: browserTabs(options.acrossTabs) }))
  useEffect(() => chat.configure(options))
  return useChatStore(chat)
}

/** The same for a chat that was made elsewhere, for instance one that several components show. */
export function useChatStore(chat: Chat): UseChatResult {
  const snapshot = useSyncExternalStore(chat.subscribe, chat.getSnapshot, chat.getServerSnapshot)
  return useMemo(() => {
    const methods = Object.fromEntries(METHODS.map((name) => [name, chat[name]]))
    return {
      ...snapshot,
      ...methods,
      definitionOf: (item: PendingItem) => definitionOf(chat, item),
    } as UseChatResult
  }, [chat, snapshot])
}
