import type { Message } from "@agentkit/react/core" with { "resolution-mode": "import" }

/** What TypeScript knows of it in a CommonJS file. */
export async function last(): Promise<Message | undefined> {
  const { Chat } = await import("@agentkit/react/core")
  return new Chat({ agent: "support" }).getSnapshot().messages.at(-1)
}
