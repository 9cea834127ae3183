/** Keyboard focus: it must not get lost when the element that has it is removed. */
import type { RefCallback } from "react"

/** Devices with a hovering pointer have a keyboard. On a phone, focus would open the one on the screen. */
export const HAS_KEYBOARD = "(hover: hover)"

/**
 * A `ref` for an element that is removed once it was used: the focus in it moves on to the next decision, or to the composer,
 * on a phone to the conversation, and in a view without them to its heading.
 */
export const passesFocusOn: RefCallback<HTMLElement> = (element) => () => {
  if (element?.contains(document.activeElement)) queueMicrotask(moveOn)
}

/** Moves the focus to the first field of a form that is wrong, once that is rendered, and scrolls to it. */
export function toFirstMistake(form: HTMLElement | null): void {
  setTimeout(() => {
    const wrong = form?.querySelector<HTMLElement>('[aria-invalid="true"]')
    const field = wrong?.matches("input, select, textarea")
      ? wrong
      : wrong?.querySelector<HTMLElement>("input, button")
    const place = field ?? form?.querySelector<HTMLElement>(".problem:not([hidden]), .mistakes")
    field?.focus({ preventScroll: true })
    place?.scrollIntoView({ block: "center" })
  })
}

function moveOn(): void {
  const fallback = matchMedia(HAS_KEYBOARD).matches ? ".composer textarea" : ".column"
  const next =
    document.querySelector<HTMLElement>(".decision") ??
    document.querySelector<HTMLElement>(fallback) ??
    document.querySelector<HTMLElement>("main h1")
  next?.focus()
}
