/** What is said in a conversation, by either side. */
import type { AssistantMessage, UserContent } from "@agentkit/react"
import { Fragment, memo, type ReactNode, useState } from "react"
import { CopyButton } from "../content/CopyButton"
import { Markdown } from "../content/Markdown"
import { Media } from "../content/Media"
import { Icon } from "../icons"
import { mediaOf, textOf } from "../text"
import { type Call, ToolCall } from "./ToolCall"

interface UserMessageProps {
  content: UserContent
  /** What is said below it. */
  note?: string
  /** Its buttons. */
  children?: ReactNode
}

export const UserMessage = memo(function UserMessage({ content, note, children }: UserMessageProps) {
  const text = textOf(content)
  const media = mediaOf(content)
  return (
    <div className="user-text">
      {media.map((block, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a message never changes
        <Media key={at} block={block} />
      ))}
      {(text || !media.length) && (
        <div className={note ? "bubble unseen" : "bubble"} dir="auto">
          {text}
        </div>
      )}
      {note && <span className="faint">{note}</span>}
      {children}
    </div>
  )
})

interface AnswerProps {
  message: AssistantMessage
  call: (id: string) => Call
  /** It still grows. */
  isOpen: boolean
  /** It is the last before a person speaks. */
  isEnd: boolean
  /** What is shown below a tool call. */
  below: (toolCallId: string) => ReactNode
  /** Its buttons, beside the one that copies it. */
  children?: ReactNode
}

export function Answer({ message, call, isOpen, isEnd, below, children }: AnswerProps) {
  const { content, stopReason, errorMessage } = message
  const text = textOf(content)
  return (
    <div className="answer">
      {content.map((block, at) => {
        const key = `${at}`
        const grows = isOpen && at === content.length - 1
        if (block.type === "text") return <Markdown key={key} text={block.text} grows={grows} />
        if (block.type === "thinking") return <Thinking key={key} text={block.thinking} grows={grows} />
        return (
          <Fragment key={key}>
            <ToolCall block={block} {...call(block.id)} grows={grows} />
            {below(block.id)}
          </Fragment>
        )
      })}
      {!isOpen && stopReason === "aborted" && <p className="mark">Stopped</p>}
      {!isOpen && stopReason === "error" && (
        <p className="mark">Broke off{errorMessage && `: ${errorMessage}`}</p>
      )}
      {!isOpen && stopReason === "length" && <p className="mark">Cut off at the model’s limit</p>}
      {!isOpen && isEnd && (
        <div className="message-actions">
          {text && <CopyButton text={text} what="answer" />}
          {children}
        </div>
      )}
    </div>
  )
}

function Thinking({ text, grows }: { text: string; grows: boolean }) {
  const [wanted, setWanted] = useState<boolean>()
  if (!text.trim()) return null
  return (
    <details
      className="thinking"
      open={wanted ?? grows}
      onToggle={(event) => {
        if (event.currentTarget.open !== (wanted ?? grows)) setWanted(event.currentTarget.open)
      }}
    >
      <summary>
        <Icon name="thought" />
        {grows ? "Thinking …" : "Thought"}
        <Icon name="chevron" />
      </summary>
      <p dir="auto">{text}</p>
    </details>
  )
}
