/**
 * Keeps a scrolled box at its end while it grows, unless the reader has gone up to read. A decision that is taller than
 * the box is shown from its top.
 */
import { useCallback, useEffect, useRef, useState } from "react"

/** Pixels that stay free above a decision. */
const MARGIN = 12

export function useBottom() {
  const box = useRef<HTMLDivElement>(null)
  const [isAway, setAway] = useState(false)
  const toBottom = useCallback(() => box.current?.scrollTo({ top: box.current.scrollHeight }), [])
  useEffect(() => {
    const outer = box.current
    const inner = outer?.firstElementChild
    if (!outer || !inner) return
    let follows = true
    let shown: HTMLElement | null = null
    const updatePosition = () => {
      follows = outer.scrollHeight - outer.scrollTop - outer.clientHeight < 60
      setAway(!follows)
    }
    const follow = () => {
      const decision = outer.querySelector<HTMLElement>(".decision")
      if (!decision) toBottom()
      else if (decision !== shown) {
        const top = decision.offsetTop - outer.offsetTop - MARGIN
        outer.scrollTo({ top: Math.min(top, outer.scrollHeight) })
      } // otherwise a person is at work in it: nothing moves under their hands
      shown = decision
    }
    const grown = new ResizeObserver(() => {
      if (follows) follow()
      updatePosition()
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
