"use client"
/** `@agentkit/react`: the hook, and what an application needs of the core beside it. */
export * from "./core/index"
export { type UseChatOptions, type UseChatResult, useChat, useChatStore } from "./react/useChat"
export { browserTabs } from "./tabs/index"
