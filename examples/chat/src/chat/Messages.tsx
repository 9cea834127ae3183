/** The messages: the user's as text and media, the agent's as Markdown, thinking and tool calls. */
import type {
  AssistantMessage,
  ToolCallBlock,
  ToolExecution,
  ToolResultMessage,
  UserContent,
} from "@agentkit/react"
import { Fragment, memo, type ReactNode, useState } from "react"
import { Markdown } from "../content/Markdown"
import { Media } from "../content/Media"
import { Icon, type IconName } from "../icons"
import { mediaOf, pretty, short, show, textOf } from "../text"

export const UserMessage = memo(function UserMessage({
  content,
  note,
}: {
  content: UserContent
  note?: string
}) {
  const text = textOf(content)
  const media = mediaOf(content)
  return (
    <div className="user-text">
      {media.map((block, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a message never changes
        <Media key={at} block={block} />
      ))}
      {(text || !media.length) && <div className={note ? "bubble unseen" : "bubble"}>{text}</div>}
      {note && <span className="faint">{note}</span>}
    </div>
  )
})

/** The state of a tool call beside its block. */
export interface Call {
  result: ToolResultMessage | undefined
  execution: ToolExecution | undefined
  isPending: boolean
  /** The run is going on, and may still execute it. */
  isBusy: boolean
}

interface AnswerProps {
  message: AssistantMessage
  call: (id: string) => Call
  /** It still grows. */
  isOpen: boolean
  /** What is shown below a tool call. */
  children: (toolCallId: string) => ReactNode
}

export function Answer({ message, call, isOpen, children }: AnswerProps) {
  const { content, stopReason, errorMessage } = message
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
            {children(block.id)}
          </Fragment>
        )
      })}
      {!isOpen && stopReason === "aborted" && <p className="mark">Stopped</p>}
      {!isOpen && stopReason === "error" && (
        <p className="mark">Broke off{errorMessage && `: ${errorMessage}`}</p>
      )}
      {!isOpen && stopReason === "length" && <p className="mark">Cut off at the model’s limit</p>}
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
      <p>{text}</p>
    </details>
  )
}

type CallState = "writing" | "next" | "waiting" | "running" | "done" | "failed" | "refused" | "left"

const CALL_STATES: Record<CallState, [label: string, icon: IconName | undefined]> = {
  writing: ["preparing", undefined],
  next: ["up next", undefined],
  waiting: ["needs you", "hand"],
  running: ["running", undefined],
  done: ["done", "check"],
  failed: ["failed", "cross"],
  refused: ["rejected", "cross"],
  left: ["not executed", "dash"],
}

function stateOf({ result, execution, isPending, isBusy }: Call, grows: boolean): CallState {
  if (result) {
    if (!result.isError) return "done"
    return textOf(result.content).startsWith("rejected: ") ? "refused" : "failed"
  }
  if (isPending) return "waiting"
  if (execution?.status === "done") return execution.isError ? "failed" : "done"
  if (execution && isBusy) return "running"
  if (grows) return "writing"
  return isBusy ? "next" : "left"
}

function ToolCall({ block, grows, ...call }: { block: ToolCallBlock; grows: boolean } & Call) {
  const state = stateOf(call, grows)
  const [label, icon] = CALL_STATES[state]
  const result = call.result?.content ?? call.execution?.result?.content
  const partial = result ? undefined : call.execution?.partialResult
  const argumentValues = Object.values(block.arguments)
  return (
    <details className={`tool ${state}`} data-tool={block.name} data-state={state}>
      <summary>
        <span className="tool-icon">{icon ? <Icon name={icon} /> : <i className="spinner" />}</span>
        <b>{block.name}</b>
        <span className="tool-arguments">{short(argumentValues.map(show).join(", "), 80)}</span>
        <span className="tool-state">{label}</span>
        <Icon name="chevron" />
      </summary>
      <div className="tool-more">
        <h4>Arguments</h4>
        <pre>{argumentValues.length ? show(block.arguments) : (block.rawArguments ?? "none")}</pre>
        {partial !== undefined && (
          <>
            <h4>So far</h4>
            <pre>{show(partial)}</pre>
          </>
        )}
        {result && (
          <>
            <h4>{state === "done" ? "Result" : "Error"}</h4>
            {result.map((one, at) =>
              one.type === "text" ? (
                // biome-ignore lint/suspicious/noArrayIndexKey: a result never changes
                <pre key={at}>{pretty(one.text)}</pre>
              ) : (
                // biome-ignore lint/suspicious/noArrayIndexKey: a result never changes
                <Media key={at} block={one} />
              ),
            )}
          </>
        )}
      </div>
    </details>
  )
}
