/** The items that wait, oldest first, each a card to answer it. The list is requested again while it is visible. */
import type { DecisionPage, InboxItem } from "@agentkit/react"
import { useEffect, useRef, useState } from "react"
import { ExactText } from "../../content/Exact"
import { Decision } from "../../decision/Decision"
import { useTool } from "../../frame/agents"
import { useAnswerCount } from "../../frame/answers"
import { Link } from "../../frame/navigation"
import { now, useServer } from "../../server"
import { age } from "../parts/age"
import { useFilters } from "../parts/filters"
import { Trouble } from "../parts/Trouble"
import { ITEM_FILTERS, ItemFilters } from "./ItemFilters"

const EVERY = 5000
/** How many items are shown at first, how many more each time, and at the most: the server's own limit of a page. */
const SIZE = 20
const MAX_SIZE = 200

export function Inbox() {
  const filters = useFilters(ITEM_FILTERS)
  const search = new URLSearchParams(filters.values).toString()
  return (
    <>
      <ItemFilters filters={filters} />
      <Items key={search} search={search} onClear={search ? filters.clear : undefined} />
    </>
  )
}

function Items({ search, onClear }: { search: string; onClear: (() => void) | undefined }) {
  const [size, setSize] = useState(SIZE)
  const answers = useAnswerCount()
  const { data, failure } = useServer<DecisionPage>(`/decisions?limit=${size}&${search}`, EVERY, answers)
  const { announcement, noteAnswered } = useAnnouncement(data?.decisions)
  if (!data)
    return failure === undefined ? (
      <p className="faint">One moment …</p>
    ) : (
      <Trouble {...{ failure, onClear }} />
    )
  const items = data.decisions
  return (
    <>
      {!!failure && <Trouble failure={failure} />}
      <p className="faint" role="status">
        {announcement}
      </p>
      {!items.length && !data.nextCursor && (
        <p className="empty">
          {onClear
            ? "Nothing waits that these filters select."
            : "Nothing waits for an answer. What a run asks people will be here."}
        </p>
      )}
      <ol className="items">
        {items.map((item) => (
          <Item key={item.decisionId} item={item} onAnswered={() => noteAnswered(item)} />
        ))}
      </ol>
      {data.nextCursor && size < MAX_SIZE && (
        <button type="button" onClick={() => setSize(Math.min(size * 2, MAX_SIZE))}>
          Show more
        </button>
      )}
      {data.nextCursor && size >= MAX_SIZE && (
        <p className="faint">More wait: they are shown as these are answered, or by a filter.</p>
      )}
    </>
  )
}

function Item({ item, onAnswered }: { item: InboxItem; onAnswered: () => void }) {
  return (
    <li>
      <p className="item-of">
        <Link to={{ view: "run", runId: item.runId }}>
          <ExactText text={item.title || `Run …${item.runId.slice(-6)}`} />
        </Link>
        <time className="faint" dateTime={new Date(item.createdAt).toISOString()}>
          asked {age(now() - item.createdAt)} ago
        </time>
      </p>
      <Decision
        item={item}
        runId={item.runId}
        tool={useTool(item.agent, item.toolName)}
        agent={item.agent}
        owner={item.owner ?? undefined}
        onAnswered={onAnswered}
      />
    </li>
  )
}

interface Announcement {
  announcement: string
  /** Notes that an item was answered here. */
  noteAnswered: (item: InboxItem) => void
}

/** Says which items have left the list. */
function useAnnouncement(items: readonly InboxItem[] | undefined): Announcement {
  const [announcement, setAnnouncement] = useState("")
  const before = useRef<readonly InboxItem[]>([])
  const answered = useRef(new Set<string>())
  useEffect(() => {
    if (!items) return
    const listed = new Set(items.map(({ decisionId }) => decisionId))
    const gone = before.current.filter(({ decisionId }) => !listed.has(decisionId))
    before.current = items
    if (!gone.length) return
    const texts = gone.map(({ decisionId, toolName }) =>
      answered.current.has(decisionId)
        ? `Answered: ${toolName}.`
        : `${toolName} waits no more: somebody else has answered it, its time is over, or its run was stopped.`,
    )
    setAnnouncement([...texts, items.length ? "" : "Nothing waits any more."].join(" ").trim())
  }, [items])
  return { announcement, noteAnswered: ({ decisionId }) => answered.current.add(decisionId) }
}
