/** The golden logs that pytest reads too: tests/golden/events of the repository. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import type { Message, RunStatus, StoredEvent } from "../src/core/types"

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

export const CASES = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".json"))
  .map((name) => name.replace(".json", ""))
