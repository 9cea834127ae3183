/** Finds a text in the thread, also in what is folded away, and goes from one place to the next. */
import { useEffect, useRef, useState } from "react"
import { Icon } from "../icons"

/** More places than these are not counted. */
const MOST = 500
const ALL = "found"
const CURRENT = "found-current"

export function Search({ onClose }: { onClose: () => void }) {
  const [text, setText] = useState("")
  const [places, setPlaces] = useState<Range[]>([])
  const [at, setAt] = useState(0)
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => {
    field.current?.focus()
    return () => mark([], undefined)
  }, [])
  useEffect(() => {
    setPlaces(find(document.querySelector(".column"), text.trim()))
    setAt(0)
  }, [text])
  useEffect(() => {
    const place = places[at]
    mark(places, place)
    if (place) show(place)
  }, [places, at])
  const move = (by: number) => places.length && setAt((at + by + places.length) % places.length)
  return (
    <search className="search">
      <input
        ref={field}
        type="search"
        dir="auto"
        aria-label="Search in this chat"
        placeholder="Search in this chat"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter") move(event.shiftKey ? -1 : 1)
          if (event.key === "Escape") onClose()
        }}
      />
      <span className="faint" role="status">
        {text.trim() && (places.length ? `${at + 1} of ${places.length}` : "Not found")}
      </span>
      <button type="button" className="ghost" onClick={() => move(-1)} disabled={!places.length}>
        <Icon name="up" />
        <span className="hidden">Previous place</span>
      </button>
      <button type="button" className="ghost" onClick={() => move(1)} disabled={!places.length}>
        <Icon name="down" />
        <span className="hidden">Next place</span>
      </button>
      <button type="button" className="ghost" onClick={onClose}>
        <Icon name="close" />
        <span className="hidden">Close the search</span>
      </button>
    </search>
  )
}

function find(root: Element | null, text: string): Range[] {
  const ranges: Range[] = []
  if (!root || !text) return ranges
  const wanted = text.toLowerCase()
  const nodes = document.createTreeWalker(root, NodeFilter.SHOW_TEXT)
  while (nodes.nextNode() && ranges.length < MOST) {
    const node = nodes.currentNode as Text
    const content = node.data.toLowerCase()
    if (content.length !== node.data.length) continue // a letter whose small form is longer: the places would be others
    for (let at = content.indexOf(wanted); at >= 0; at = content.indexOf(wanted, at + wanted.length)) {
      const range = document.createRange()
      range.setStart(node, at)
      range.setEnd(node, at + wanted.length)
      ranges.push(range)
    }
  }
  return ranges
}

/** Marks places where the browser can; it scrolls to them in any case. */
function mark(places: readonly Range[], current: Range | undefined): void {
  if (!("highlights" in CSS)) return
  CSS.highlights.set(ALL, new Highlight(...places))
  CSS.highlights.set(CURRENT, current ? new Highlight(current) : new Highlight())
}

function show(place: Range): void {
  const element = place.startContainer.parentElement
  for (let outer = element?.closest("details"); outer; outer = outer.parentElement?.closest("details")) {
    outer.open = true
  }
  element?.scrollIntoView({ block: "center" })
}
