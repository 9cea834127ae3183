/** Bytes of a response into the JSON of server-sent events. It knows no event by name, and no run. */
import { createParser } from "eventsource-parser"
import { notAgentKit } from "./errors"

/** What a stream tells its reader. */
export interface SseReader<T> {
  /** What one chunk of bytes brought, in order; perhaps nothing. Return true to stop reading. */
  onChunk(events: T[]): boolean
  /** The server's `retry:` line, in milliseconds. */
  onRetry(ms: number): void
}

/** Reads until the body ends or the reader has enough. Rejects where the connection breaks. */
export async function readSse<T>(body: ReadableStream<Uint8Array>, reader: SseReader<T>): Promise<void> {
  let got: T[] = []
  const parser = createParser({
    onEvent: ({ data }) => got.push(parsed(data)),
    onRetry: (ms) => reader.onRetry(ms),
  })
  const decoder = new TextDecoder()
  const bytes = body.getReader()
  try {
    for (;;) {
      const { done, value } = await bytes.read()
      if (done) return
      got = []
      parser.feed(decoder.decode(value, { stream: true }))
      if (reader.onChunk(got)) return
    }
  } finally {
    bytes.cancel().catch(() => {})
  }
}

function parsed(data: string) {
  try {
    return JSON.parse(data)
  } catch (cause) {
    throw notAgentKit({ cause })
  }
}
