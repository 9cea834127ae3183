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

export const CASES = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".json"))
  .map((name) => name.replace(".json", ""))
