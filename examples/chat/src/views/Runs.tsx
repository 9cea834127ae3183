/** All runs that the caller may see, newest first, by filters and in pages: each costs the same however many runs there are. */
import type { RunPage } from "@agentkit/react"
import { useState } from "react"
import { useAgents } from "../frame/agents"
import { Heading } from "../frame/Heading"
import { useNavigation } from "../frame/navigation"
import { useServer } from "../server"
import { STATUS } from "../text"
import { Choice, FilterBar, TextFilter } from "./parts/FilterBar"
import { useFilters } from "./parts/filters"
import { Paging } from "./parts/Paging"
import { Trouble } from "./parts/Trouble"
import { RunRow, RunTable } from "./runs/RunTable"

const EVERY = 5000
const SIZE = 50
const FILTERS = ["status", "agent", "owner", "age", "text"]
const HOUR = 3_600_000
const AGES: readonly (readonly [hours: string, label: string])[] = [
  ["1", "the last hour"],
  ["24", "the last day"],
  ["168", "the last week"],
  ["720", "the last 30 days"],
]

export default function Runs() {
  const filters = useFilters(FILTERS)
  const agents = useAgents()
  const { cursor = "" } = useNavigation().place.query
  const { age, ...selecting } = filters.values
  const search = new URLSearchParams({ ...selecting, ...(cursor && { cursor }) }).toString()
  const hasFilters = Object.keys(filters.values).length > 0
  return (
    <div className="view">
      <Heading>Runs</Heading>
      <FilterBar filters={filters}>
        <TextFilter filters={filters} name="text" label="Title or id" />
        <Choice filters={filters} name="status" label="Status" values={Object.entries(STATUS)} />
        <Choice
          filters={filters}
          name="agent"
          label="Agent"
          values={agents.map(({ name }) => [name, name] as const)}
        />
        <TextFilter filters={filters} name="owner" label="Owner" />
        <Choice filters={filters} name="age" label="Started in" values={AGES} />
      </FilterBar>
      <Page
        key={`${search}&${age}`}
        search={search}
        hours={Number(age) || undefined}
        isFirst={!cursor}
        onClear={hasFilters || cursor ? filters.clear : undefined}
      />
    </div>
  )
}

interface PageProps {
  search: string
  /** How old a run may be. */
  hours: number | undefined
  isFirst: boolean
  onClear: (() => void) | undefined
}

function Page({ search, hours, isFirst, onClear }: PageProps) {
  const [since] = useState(() => (hours ? `&since=${Date.now() - hours * HOUR}` : ""))
  // Earlier pages hold still, so that they can be read.
  const { data, failure } = useServer<RunPage>(
    `/runs?limit=${SIZE}&${search}${since}`,
    isFirst ? EVERY : undefined,
  )
  if (!data)
    return failure === undefined ? (
      <p className="faint">One moment …</p>
    ) : (
      <Trouble {...{ failure, onClear }} />
    )
  const { runs, nextCursor } = data
  return (
    <>
      {!!failure && <Trouble failure={failure} />}
      {runs.length > 0 && (
        <RunTable>
          {runs.map((run) => (
            <RunRow key={run.id} run={run} />
          ))}
        </RunTable>
      )}
      {!runs.length && (
        <p className="empty">
          {nextCursor ? "None among the runs that were searched. Go on with older ones:" : nothing(onClear)}
        </p>
      )}
      <Paging nextCursor={nextCursor} next="Older runs" first="Newest runs" />
    </>
  )
}

function nothing(onClear: (() => void) | undefined): string {
  return onClear
    ? "No runs that these filters select."
    : "No runs yet. A chat starts one, and so does the API."
}
