/** What every view may ask for: the application's agents and their tools, and who is logged in. */
import { createContext, use } from "react"
import type { Agent, Tool } from "../server"

export interface Application {
  agents: readonly Agent[]
  /** Who the server says is logged in; undefined where it asks nobody to. */
  principal?: string
}

export const ApplicationContext = createContext<Application>({ agents: [] })

export function useAgents(): readonly Agent[] {
  return use(ApplicationContext).agents
}

export function usePrincipal(): string | undefined {
  return use(ApplicationContext).principal
}

/** Returns a tool of an agent; undefined where the application does not have it (any more). */
export function useTool(agent: string | undefined, name: string): Tool | undefined {
  return useAgents()
    .find((one) => one.name === agent)
    ?.tools.find((tool) => tool.name === name)
}
