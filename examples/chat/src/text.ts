/** Formats values for people. */
import type { Message, Run, RunStatus, TextBlock, UserContent } from "@agentkit/react"
import type { MediaBlock } from "./content/Media"

export function textOf(content: UserContent | Message["content"]): string {
  if (typeof content === "string") return content
  const texts = content.filter((block): block is TextBlock => block.type === "text")
  return texts.map((block) => block.text).join("\n")
}

/** The images, documents and audio of what a person sent. */
export function mediaOf(content: UserContent): MediaBlock[] {
  return typeof content === "string" ? [] : content.filter((block) => block.type !== "text")
}

/** JSON of an object or a list, laid out; any other text as it is. */
export function pretty(text: string): string {
  try {
    const value = JSON.parse(text)
    return value && typeof value === "object" ? JSON.stringify(value, null, 2) : text
  } catch {
    return text
  }
}

export function show(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "")
}

export function short(text: string, length: number): string {
  const line = text.replace(/\s+/g, " ").trim()
  return line.length > length ? `${line.slice(0, length - 1)}…` : line
}

export function ago(time: number): string {
  const seconds = Math.max(0, Math.round((Date.now() - time) / 1000))
  if (seconds < 60) return "now"
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`
  return new Date(time).toLocaleDateString(undefined, { day: "numeric", month: "short" })
}

/** A time of today by the clock, an older one with its day. */
export function timeOf(time: number): string {
  const isToday = new Date(time).toDateString() === new Date().toDateString()
  return new Date(time).toLocaleString(
    undefined,
    isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" },
  )
}

export function money(dollars: number): string {
  return `$${dollars.toFixed(dollars < 0.1 ? 4 : 2)}`
}

export const STATUS: Record<RunStatus, string> = {
  queued: "waiting for a worker",
  running: "running",
  paused: "waiting for an answer",
  completed: "done",
  failed: "failed",
  aborted: "stopped",
}

/** What a list calls a run: the title that this page, or another client, gave it. */
export function titleOf(run: Pick<Run, "id" | "agent" | "metadata">): string {
  return typeof run.metadata.title === "string" ? run.metadata.title : `${run.agent} · ${run.id.slice(-6)}`
}
