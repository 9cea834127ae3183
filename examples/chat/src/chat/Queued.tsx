/** Messages that were sent into the run: those that wait for it, and those that it ended without having seen. */
import type { UseChatResult } from "@agentkit/react"
import { UserMessage } from "./Messages"

const NOTES = {
  steer: "It sees this at its next step",
  followUp: "It sees this when it is done",
}

export function Queued({ chat }: { chat: UseChatResult }) {
  const { queued, unsent, status } = chat
  const isBusy = status === "submitted" || status === "streaming" || status === "paused"
  return (
    <>
      {queued.map(({ message, when, by }, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: two messages may have the same text
        <UserMessage key={at} content={message} note={by ? `${NOTES[when]} · ${by}` : NOTES[when]} />
      ))}
      {unsent.map(({ message }, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: two messages may have the same text
        <UserMessage key={at} content={message} note="The run ended before the agent saw this">
          {!isBusy && (
            <button type="button" className="small" onClick={() => void chat.send(message)}>
              Send it now
            </button>
          )}
        </UserMessage>
      ))}
    </>
  )
}
