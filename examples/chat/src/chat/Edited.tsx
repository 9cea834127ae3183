/** A person's message while they change it. What they send is a branch of its own; the other one stays. */
import type { UserContent } from "@agentkit/react"
import { useEffect, useRef, useState } from "react"
import { textOf } from "../text"

interface Props {
  content: UserContent
  onSend: (content: UserContent) => void
  onCancel: () => void
}

export function Edited({ content, onSend, onCancel }: Props) {
  const [text, setText] = useState(textOf(content))
  const field = useRef<HTMLTextAreaElement>(null)
  useEffect(() => {
    const area = field.current
    area?.focus()
    area?.setSelectionRange(area.value.length, area.value.length)
  }, [])
  const media = typeof content === "string" ? [] : content.filter((block) => block.type !== "text")
  const send = () => {
    if (text.trim() || media.length) onSend(withText(media, text.trim()))
  }
  return (
    <form
      className="edited-message"
      onSubmit={(event) => {
        event.preventDefault()
        send()
      }}
    >
      <textarea
        ref={field}
        dir="auto"
        rows={Math.min(8, text.split("\n").length + 1)}
        aria-label="Changed message"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onCancel()
          if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return
          event.preventDefault()
          send()
        }}
      />
      <div className="message-actions">
        <button type="submit" className="primary">
          Send anew
        </button>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
    </form>
  )
}

function withText(media: Exclude<UserContent, string>, text: string): UserContent {
  if (!media.length) return text
  return text ? [...media, { type: "text", text }] : media
}
