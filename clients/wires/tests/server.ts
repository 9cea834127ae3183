// The processes that pytest has started for these tests (tests/acceptance/test_wires.py), and the golden files.

import { readdirSync, readFileSync } from "node:fs"

export const URL = process.env.WIRES_URL ?? ""
/** What the model is told to answer, by the name of the case. */
export const SCRIPTS: Record<string, string> = JSON.parse(process.env.WIRES_SCRIPTS ?? "{}")

/** Kill a worker that executes something, or all, and start them again. */
export async function killWorkers(): Promise<void> {
  const response = await fetch(`${process.env.WIRES_CONTROL}/kill`, { method: "POST" })
  if (!response.ok) throw new Error(`no worker was killed: ${response.status}`)
}

/** How often a tool was executed in a run. */
export async function executions(runId: string): Promise<number> {
  return (await runOf(runId)).messages.filter((message) => message.role === "toolResult").length
}

interface Run {
  status: string
  messages: { role: string; content: unknown }[]
}

export async function runOf(runId: string): Promise<Run> {
  return (await fetch(`${URL}/runs/${runId}`)).json() as Promise<Run>
}

/** The golden streams of a wire (tests/golden/make_wires.py), by their names. */
export function golden(wire: string): [string, { live: unknown[][]; replayed: unknown[] }][] {
  const folder = `${import.meta.dirname}/../../../tests/golden/wires/${wire}`
  return readdirSync(folder).map((name) => [name, JSON.parse(readFileSync(`${folder}/${name}`, "utf8"))])
}
