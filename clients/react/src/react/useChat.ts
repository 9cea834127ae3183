/**
 * The hook: a chat of the core, read through `useSyncExternalStore`. The core does the work; this file
 * knows only when a component is mounted. Subscribing makes a chat follow its run, so that StrictMode's second mount goes
 * on where the first ended, and a server, which never subscribes, makes no request.
 */
import { useEffect, useMemo, useState, useSyncExternalStore } from "react"
import { Chat } from "../core/chat"
import type { ChatOptions, ChatSnapshot } from "../core/options"

export type UseChatOptions = ChatOptions

export type UseChatResult = ChatSnapshot &
  Pick<Chat, "send" | "respondWithDecision" | "reject" | "abort" | "steer" | "followUp" | "reload" | "rejoin">

/**
 * A conversation with an agent. `runId` and `initialMessages` are read at the first render; give the component
 * another `key` for another conversation. All other options may change at any time.
 */
export function useChat(options: UseChatOptions): UseChatResult {
  const [chat] = useState(() => new Chat(options))
  useEffect(() => chat.configure(options))
  return useChatStore(chat)
}

/** The same for a chat that was made elsewhere, for instance one that several components show. */
export function useChatStore(chat: Chat): UseChatResult {
  const snapshot = useSyncExternalStore(chat.subscribe, chat.getSnapshot, chat.getServerSnapshot)
  return useMemo(() => {
    const { send, respondWithDecision, reject, abort, steer, followUp, reload, rejoin } = chat
    return { ...snapshot, send, respondWithDecision, reject, abort, steer, followUp, reload, rejoin }
  }, [chat, snapshot])
}
