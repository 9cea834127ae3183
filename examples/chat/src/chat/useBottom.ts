/** Keeps a scrolled box at its end while it grows, unless the reader has gone up to read. */
import { useCallback, useEffect, useRef, useState } from "react"

export function useBottom() {
  const box = useRef<HTMLDivElement>(null)
  const [isAway, setAway] = useState(false)
  const toBottom = useCallback(() => box.current?.scrollTo({ top: box.current.scrollHeight }), [])
  useEffect(() => {
    const outer = box.current
    const inner = outer?.firstElementChild
    if (!outer || !inner) return
    let follows = true
    const updatePosition = () => {
      follows = outer.scrollHeight - outer.scrollTop - outer.clientHeight < 60
      setAway(!follows)
    }
    const grown = new ResizeObserver(() => {
      if (follows) toBottom()
      else updatePosition()
    })
    grown.observe(inner)
    grown.observe(outer)
    outer.addEventListener("scroll", updatePosition, { passive: true })
    return () => {
      grown.disconnect()
      outer.removeEventListener("scroll", updatePosition)
    }
  }, [toBottom])
  return { box, isAway, toBottom }
}
