/**
 * The message field. Enter sends, Shift+Enter begins a new line; while a run is going on, what is sent steers it. Files are
 * chosen, pasted or dropped, as far as the model takes them.
 */
import type { UserContent } from "@agentkit/react"
import { type KeyboardEvent, useEffect, useLayoutEffect, useRef } from "react"
import { useDraft } from "../frame/draft"
import { HAS_KEYBOARD, passesFocusOn } from "../frame/focus"
import { Icon } from "../icons"
import type { Capabilities } from "../server"
import { Attachments } from "./Attachments"
import { type Attachment, acceptOf } from "./attachments"
import { useFiles } from "./useFiles"

interface Props {
  /** What the text is kept under. */
  draft: string
  takes: Capabilities
  isBusy: boolean
  isPaused: boolean
  /** Resolves to whether the message was accepted; otherwise it stays in the field. */
  onSend: (content: UserContent) => Promise<boolean>
  onStop: () => void
}

export function Composer({ draft, takes, isBusy, isPaused, onSend, onStop }: Props) {
  const [text, setText] = useDraft(draft)
  const { attachments, refusal, isOver, add, set } = useFiles(takes)
  const field = useRef<HTMLTextAreaElement>(null)
  const chooser = useRef<HTMLInputElement>(null)
  const accept = acceptOf(takes)
  const isEmpty = !text.trim() && !attachments.length
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
    if (isEmpty) return
    setText("")
    set([])
    if (await onSend(contentOf(text.trim(), attachments))) return
    if (!field.current?.value) setText(text)
    set(attachments)
  }
  const key = (event: KeyboardEvent) => {
    const { isComposing, keyCode } = event.nativeEvent
    if (event.key !== "Enter" || event.shiftKey || isComposing || keyCode === 229) return // 229: Safari composes
    event.preventDefault()
    void submit()
  }
  return (
    <form
      className={isOver ? "composer over" : "composer"}
      onSubmit={(event) => {
        event.preventDefault()
        void submit()
      }}
    >
      {isOver && <p className="drop">{accept ? "Drop files to send them" : "The model takes no files"}</p>}
      <Attachments
        attachments={attachments}
        onRemove={(at) => set(attachments.filter((_, one) => one !== at))}
      />
      {refusal && (
        <p className="refusal" role="alert">
          {refusal}
        </p>
      )}
      <div className="composer-row">
        {accept && (
          <>
            <input
              ref={chooser}
              type="file"
              multiple
              accept={accept}
              hidden
              onChange={(event) => {
                void add(event.target.files ?? [])
                event.target.value = ""
              }}
            />
            <button
              type="button"
              className="round ghost"
              title="Attach files"
              onClick={() => chooser.current?.click()}
            >
              <Icon name="clip" />
              <span className="hidden">Attach files</span>
            </button>
          </>
        )}
        <textarea
          ref={field}
          dir="auto"
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
          onPaste={(event) => {
            const { files } = event.clipboardData
            if (!files.length) return
            event.preventDefault()
            void add(files)
          }}
        />
        {isBusy && (
          <button type="button" className="round stop" onClick={onStop} title="Stop" ref={passesFocusOn}>
            <Icon name="stop" />
            <span className="hidden">Stop</span>
          </button>
        )}
        <button type="submit" className="round send" disabled={isEmpty} title={isBusy ? "Steer" : "Send"}>
          <Icon name="send" />
          <span className="hidden">{isBusy ? "Steer" : "Send"}</span>
        </button>
      </div>
    </form>
  )
}

function contentOf(text: string, attachments: readonly Attachment[]): UserContent {
  if (!attachments.length) return text
  const media = attachments.map(({ name, ...block }) =>
    block.type === "document" ? { ...block, type: block.type, name } : { ...block, type: block.type },
  )
  return [...media, ...(text ? [{ type: "text" as const, text }] : [])]
}
