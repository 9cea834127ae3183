/** The message field. Enter sends, Shift+Enter begins a new line; while a run is going on, what is sent steers it. */
import { type KeyboardEvent, useEffect, useLayoutEffect, useRef } from "react"
import { useDraft } from "../frame/draft"
import { HAS_KEYBOARD, passesFocusOn } from "../frame/focus"
import { Icon } from "../icons"

interface Props {
  /** What the text is kept under. */
  draft: string
  isBusy: boolean
  isPaused: boolean
  /** Resolves to whether the text was accepted; otherwise it stays in the field. */
  onSubmitText: (text: string) => Promise<boolean>
  onStop: () => void
}

export function Composer({ draft, isBusy, isPaused, onSubmitText, onStop }: Props) {
  const [text, setText] = useDraft(draft)
  const field = useRef<HTMLTextAreaElement>(null)
  useEffect(() => {
    if (matchMedia(HAS_KEYBOARD).matches) field.current?.focus()
  }, [])
  // biome-ignore lint/correctness/useExhaustiveDependencies: the height follows the text
  useLayoutEffect(() => {
    const area = field.current
    if (!area) return
    area.style.height = "auto"
    area.style.height = `${area.scrollHeight}px`
  }, [text])

  const submit = async () => {
    const trimmed = text.trim()
    if (!trimmed) return
    setText("")
    if (!(await onSubmitText(trimmed)) && !field.current?.value) setText(trimmed)
  }
  const key = (event: KeyboardEvent) => {
    const { isComposing, keyCode } = event.nativeEvent
    if (event.key !== "Enter" || event.shiftKey || isComposing || keyCode === 229) return // 229: Safari composes
    event.preventDefault()
    void submit()
  }
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      <textarea
        ref={field}
        rows={1}
        value={text}
        aria-label="Message"
        placeholder={
          isPaused
            ? "Say something for when it goes on …"
            : isBusy
              ? "Steer it while it works …"
              : "Write a message …"
        }
        onChange={(event) => setText(event.target.value)}
        onKeyDown={key}
      />
      {isBusy && (
        <button type="button" className="round stop" onClick={onStop} title="Stop" ref={passesFocusOn}>
          <Icon name="stop" />
          <span className="hidden">Stop</span>
        </button>
      )}
      <button type="submit" className="round send" disabled={!text.trim()} title={isBusy ? "Steer" : "Send"}>
        <Icon name="send" />
        <span className="hidden">{isBusy ? "Steer" : "Send"}</span>
      </button>
    </form>
  )
}
