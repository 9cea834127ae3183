/** The ways to the next page of a list, and back to its first. The browser's back button leads to the page before. */
import { Link, useNavigation } from "../../frame/navigation"

interface Props {
  nextCursor: string | undefined
  /** What follows: "Older runs". */
  next: string
  first: string
}

export function Paging({ nextCursor, next, first }: Props) {
  const { view, query } = useNavigation().place
  const { cursor, ...others } = query
  if (!cursor && !nextCursor) return null
  return (
    <nav className="paging" aria-label="Pages">
      {cursor && <Link to={{ view, query: others }}>{first}</Link>}
      {nextCursor && <Link to={{ view, query: { ...others, cursor: nextCursor } }}>{next}</Link>}
    </nav>
  )
}
