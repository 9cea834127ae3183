/** A pending item in a chat. Of a sub-agent's it is that agent's tool which it is about, and that run's owner who asks. */
import type { PendingItem } from "@agentkit/react"
import { Decision } from "../decision/Decision"
import { usePrincipal, useTool } from "../frame/agents"
import { type Run, useServer } from "../server"

interface Props {
  item: PendingItem
  /** The run of the chat, and its agent. */
  runId: string
  agent: string
  owner: string | undefined
}

export function ChatDecision({ item, runId, agent, owner }: Props) {
  const isElsewhere = item.runId !== undefined && item.runId !== runId
  const { data: run } = useServer<Run>(
    isElsewhere ? `/runs/${encodeURIComponent(item.runId ?? "")}` : undefined,
  )
  const principal = usePrincipal()
  const asking = isElsewhere ? run?.agent : agent
  return (
    <Decision
      item={item}
      runId={runId}
      tool={useTool(asking, item.toolName)}
      agent={asking}
      owner={(isElsewhere ? run?.owner : owner) ?? principal}
    />
  )
}
