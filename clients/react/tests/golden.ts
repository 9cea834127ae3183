/** The golden logs that pytest reads too: tests/golden/events of the repository. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import type { Message, RunStatus, StoredEvent, UserContent } from "../src/core/types"

export interface Golden {
  description: string
  status: RunStatus
  events: StoredEvent[]
  messages: Message[]
}

const FOLDER = join(import.meta.dirname, "../../../tests/golden/events")

export function golden(name: string): Golden {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), "utf8"))
}

/** The log of a run that was started with `messages` instead of `input`, as this package does. */
export function withHistory(name: string): Golden {
  const log = golden(name)
  const events = log.events
    .filter(
      (event) => !(event.type.startsWith("message") && "message" in event && event.message.role === "user"),
    )
    .map((event, at) => ({ ...event, seq: at + 1 }))
  const [start, ...rest] = events as [Extract<StoredEvent, { type: "agent_start" }>, ...StoredEvent[]]
  const users = log.messages.filter((message) => message.role === "user")
  return { ...log, events: [{ ...start, messages: users }, ...rest] }
}

/** The log of a run that was started from another with these messages, and perhaps an input: what the log says beside them. */
export function goingOn(log: Golden, history: Message[], input?: UserContent): Golden {
  const { events } = log
  const turn = events.findIndex((event) => event.type === "turn_start")
  const timestamp = 1_700_000_000_000
  const message = { role: "user" as const, content: input ?? "", timestamp }
  const begin = [
    { ...events[0], messages: history },
    ...(input === undefined
      ? []
      : [
          { type: "message_start", message, timestamp },
          { type: "message_end", message, timestamp },
        ]),
  ]
  const all = [...begin, ...events.slice(turn)].map((event, at) => ({ ...event, seq: at + 1 }) as StoredEvent)
  return { ...log, events: all }
}

export const CASES = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".json"))
  .map((name) => name.replace(".json", ""))
