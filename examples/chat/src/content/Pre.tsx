/** A text of fixed width. It may scroll, and so can have the focus. */
import type { ReactNode } from "react"

export function Pre({ children }: { children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a box that scrolls must be reachable by keyboard
    <pre tabIndex={0} dir="ltr">
      {children}
    </pre>
  )
}
