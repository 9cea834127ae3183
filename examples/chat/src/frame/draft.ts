/** A text that is being written stays in its tab over a reload, a login and the way to another view and back. */
import { useCallback, useState } from "react"

/** `key`: what the text is for. */
export function useDraft(key: string): [text: string, setText: (text: string) => void] {
  const name = `agentkit.draft.${key}`
  const [text, show] = useState(() => sessionStorage.getItem(name) ?? "")
  const setText = useCallback(
    (next: string) => {
      show(next)
      if (next) sessionStorage.setItem(name, next)
      else sessionStorage.removeItem(name)
    },
    [name],
  )
  return [text, setText]
}
