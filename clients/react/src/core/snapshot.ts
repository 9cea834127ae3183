/** Makes the snapshot that a page shows of a session. Pure. */
import type { AgentKitError } from "./errors"
import { messagesOf } from "./fold"
import type { Branches, ChatOptions, ChatSnapshot, ChatStatus, ClientTool } from "./options"
import type { Session } from "./session"
import type { PendingItem } from "./types"

type SnapshotOptions = Pick<ChatOptions, "agent" | "clientTools" | "followDecisions">

/** What a chat knows beside its session. */
interface Surroundings {
  /** The error of the last call, which does not affect the run. */
  callError?: AgentKitError | undefined
  isOffline: boolean
  branches: Branches
}

export function snapshotOf(
  session: Session,
  options: SnapshotOptions,
  { callError, isOffline, branches }: Surroundings,
): ChatSnapshot {
  const { view, pending, runs, queue } = session
  const status = statusOf(session, options)
  return {
    messages: messagesOf(view),
    status,
    isStreaming: status === "submitted" || status === "streaming",
    isReconnecting: session.reconnecting && session.isBusy,
    isOffline,
    pendingDecisions: pending,
    pendingDecision: pending.find((item) => !toolOf(item, options)),
    error: callError ?? session.error ?? session.failure,
    runId: session.runId ?? session.beginning.from?.runId,
    agent: view.agent ?? options.agent,
    refused: session.error && !session.runId ? session.sent?.content : undefined,
    usage: view.usage,
    tools: view.tools,
    decisions: view.decisions,
    queued: queue.waiting,
    unsent: queue.unsent,
    runs,
    branches,
    retry: view.retry,
  }
}

/** Returns the client tool that executes a pending item. Where there is none, a person is to answer. */
export function toolOf(item: PendingItem, { clientTools = {} }: SnapshotOptions): ClientTool | undefined {
  const isHere = item.kind === "client_execute" && Object.hasOwn(clientTools, item.toolName)
  return isHere ? clientTools[item.toolName] : undefined
}

function statusOf(session: Session, { followDecisions = true }: SnapshotOptions): ChatStatus {
  const { error, failure, isBusy, view, pending } = session
  if (error || failure) return "error"
  if (!isBusy) return "ready"
  if (view.status === "running") return "streaming"
  const isAnswered = !pending.length && followDecisions
  return view.status === "paused" && !isAnswered ? "paused" : "submitted"
}
