/** Bytes of a response into the JSON of server-sent events. It knows no event by name, and no run. */
import { createParser } from "eventsource-parser"

/** What a stream tells its reader. */
export interface SseReader<T> {
  /** What one chunk of bytes brought, in order; perhaps nothing. Return true to stop reading. */
  onChunk(events: T[]): boolean
  /** The server's `retry:` line, in milliseconds. */
  onRetry(ms: number): void
}

/** Reads until the body ends or breaks off, or the reader has enough. Rejects where an event is no JSON. */
export async function readSse<T>(body: ReadableStream<Uint8Array>, reader: SseReader<T>): Promise<void> {
  let got: T[] = []
  let held = ""
  const parser = createParser({
    onEvent: ({ data }) => got.push(JSON.parse(data)),
    onRetry: reader.onRetry,
  })
  const decoder = new TextDecoder()
  const bytes = body.getReader()
  try {
    for (;;) {
      const { done, value } = await bytes.read().catch(() => ({ done: true, value: undefined }))
      if (done) return
      got = []
      const text = decoder.decode(value, { stream: true })
      held += text
      // The parser goes through an unfinished line again with all that it is fed.
      if (text.includes("\n")) {
        parser.feed(held)
        held = ""
      }
      if (reader.onChunk(got)) return
    }
  } finally {
    bytes.cancel().catch(() => {})
  }
}
