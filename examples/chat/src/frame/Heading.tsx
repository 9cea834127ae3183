/** The one `h1` of a view. It takes the focus when a person comes from another view, so that its name is read out. */
import { type ReactNode, useEffect, useRef } from "react"
import { useNavigation } from "./navigation"

export function Heading({ children }: { children: ReactNode }) {
  const { place } = useNavigation()
  const heading = useRef<HTMLHeadingElement>(null)
  const hasMoved = useRef(place.visit > 0)
  useEffect(() => {
    if (hasMoved.current) heading.current?.focus({ preventScroll: true })
  }, [])
  return (
    <h1 tabIndex={-1} ref={heading}>
      {children}
    </h1>
  )
}
