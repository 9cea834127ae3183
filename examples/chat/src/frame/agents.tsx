/** The application's agents, which every view may ask for. */
import { createContext, use } from "react"
import type { Agent } from "../server"

export const AgentsContext = createContext<readonly Agent[]>([])

export function useAgents(): readonly Agent[] {
  return use(AgentsContext)
}
