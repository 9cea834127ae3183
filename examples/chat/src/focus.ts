/** The focus of those who work by keyboard or ear: it must not fall into nothing when what holds it goes away. */
import type { RefCallback } from "react"

/** Where a pointer hovers there is a keyboard at hand. On a phone the field's own would jump up. */
export const HAS_KEYBOARD = "(hover: hover)"

/**
 * A `ref` for what goes away once it was used: the focus in it moves on to the next decision, or to the composer,
 * and on a phone to the conversation.
 */
export const passesFocusOn: RefCallback<HTMLElement> = (element) => () => {
  if (element?.contains(document.activeElement)) queueMicrotask(moveOn)
}

function moveOn(): void {
  const otherwise = matchMedia(HAS_KEYBOARD).matches ? ".composer textarea" : ".column"
  const next =
    document.querySelector<HTMLElement>(".decision") ?? document.querySelector<HTMLElement>(otherwise)
  next?.focus()
}
