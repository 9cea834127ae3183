/** The filters of items, waiting or answered. */
import { useAgents } from "../../frame/agents"
import { Choice, FilterBar, TextFilter } from "../parts/FilterBar"
import type { Filters } from "../parts/filters"

export const ITEM_FILTERS = ["agent", "tool", "kind", "owner"]

export const KINDS: Record<string, string> = {
  decision: "decision",
  client_execute: "to be done outside",
  in_doubt: "in doubt",
}

export function ItemFilters({ filters }: { filters: Filters }) {
  const agents = useAgents()
  const chosen = agents.filter(({ name }) => !filters.values.agent || name === filters.values.agent)
  const tools = [...new Set(chosen.flatMap((agent) => agent.tools.map(({ name }) => name)))].sort()
  return (
    <FilterBar filters={filters}>
      <Choice
        filters={filters}
        name="agent"
        label="Agent"
        values={agents.map(({ name }) => [name, name] as const)}
      />
      <Choice
        filters={filters}
        name="tool"
        label="Tool"
        values={tools.map((name) => [name, name] as const)}
      />
      <Choice filters={filters} name="kind" label="Kind" values={Object.entries(KINDS)} />
      <TextFilter filters={filters} name="owner" label="Owner" />
    </FilterBar>
  )
}
