/** Where one types. Enter sends, Shift+Enter begins a new line; while a run is going on, what is sent steers it. */
import { type KeyboardEvent, useEffect, useLayoutEffect, useRef, useState } from "react"
import { HAS_KEYBOARD, passesFocusOn } from "./focus"
import { Icon } from "./icons"

interface Props {
  isBusy: boolean
  isPaused: boolean
  /** Resolves to whether it was taken; what was not stays in the field. */
  onSay: (text: string) => Promise<boolean>
  onStop: () => void
}

export function Composer({ isBusy, isPaused, onSay, onStop }: Props) {
  const [text, setText] = useState("")
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

  const say = async () => {
    const said = text.trim()
    if (!said) return
    setText("")
    if (!(await onSay(said))) setText((now) => now || said)
  }
  const key = (event: KeyboardEvent) => {
    const { isComposing, keyCode } = event.nativeEvent
    if (event.key !== "Enter" || event.shiftKey || isComposing || keyCode === 229) return // 229: Safari composes
    event.preventDefault()
    void say()
  }
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault()
        void say()
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
