/** The definition of the tool that a pending item calls: that of the agent whose run has the item, a sub-agent's too. */
import type { Chat } from "../core/chat"
import type { PendingItem, ToolDefinition } from "../core/types"

/** Undefined where the server does not say it. */
export async function definitionOf(
  { client, getSnapshot }: Chat,
  item: PendingItem,
): Promise<ToolDefinition | undefined> {
  try {
    const { agents } = await client.agents()
    const owner = item.runId ? (await client.get(item.runId)).agent : getSnapshot().agent
    return agents.find(({ name }) => name === owner)?.tools.find(({ name }) => name === item.toolName)
  } catch {
    return undefined
  }
}
