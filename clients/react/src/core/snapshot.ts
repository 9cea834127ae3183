/** What a session looks like to a page. Pure: it asks nobody and tells nobody. */
import type { AgentKitError } from "./errors"
import { messagesOf } from "./fold"
import type { ChatOptions, ChatSnapshot, ChatStatus, ClientTool } from "./options"
import type { Session } from "./session"
import type { PendingItem } from "./types"

type Looks = Pick<ChatOptions, "clientTools" | "followDecisions">

/** `refused`: what was refused last, while the run is well. */
export function look(session: Session, options: Looks, refused?: AgentKitError): ChatSnapshot {
  const { view, pending } = session
  const status = statusOf(session, options)
  return {
    messages: messagesOf(view),
    status,
    isStreaming: status === "submitted" || status === "streaming",
    isReconnecting: session.reconnecting && session.isBusy,
    pendingDecisions: pending,
    pendingDecision: pending.find((item) => !toolOf(item, options)),
    error: refused ?? session.lost ?? session.failure,
    runId: session.runId,
    usage: view.usage,
    tools: view.tools,
    retry: view.retry,
  }
}

/** The function that executes a pending item in this page. Where there is none, a person is to answer. */
export function toolOf(item: PendingItem, { clientTools = {} }: Looks): ClientTool | undefined {
  const isHere = item.kind === "client_execute" && Object.hasOwn(clientTools, item.toolName)
  return isHere ? clientTools[item.toolName] : undefined
}

function statusOf(session: Session, { followDecisions = true }: Looks): ChatStatus {
  const { lost, failure, isBusy, view, pending } = session
  if (lost || failure) return "error"
  if (!isBusy) return "ready"
  if (view.status === "running") return "streaming"
  const isAnswered = !pending.length && followDecisions
  return view.status === "paused" && !isAnswered ? "paused" : "submitted"
}
