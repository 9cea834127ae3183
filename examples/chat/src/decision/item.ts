import type { JsonObject, PendingItem } from "@agentkit/react"

export interface Item extends PendingItem {
  reason?: string
  approvals?: number
  votes?: { decidedBy: string; decidedAt: number }[]
  proposal?: { decision: unknown; input?: JsonObject; remember?: boolean }
  remember?: boolean
}
