/** Parses the bytes of a response as server-sent events with JSON data. It knows nothing of runs. */
import { createParser } from "eventsource-parser"

/** The callbacks of a reader of a stream. */
export interface SseReader<T> {
  /** The events of one chunk of bytes, in order; perhaps none. Return true to stop reading. */
  onChunk(events: T[]): boolean
  /** The server's `retry:` line, in milliseconds. */
  onRetry(ms: number): void
}

/** Reads until the body ends or breaks off, or `onChunk` returns true. Rejects where an event is not JSON. */
export async function readSse<T>(body: ReadableStream<Uint8Array>, reader: SseReader<T>): Promise<void> {
  let received: T[] = []
  let unparsed = ""
  const parser = createParser({
    onEvent: ({ data }) => received.push(JSON.parse(data)),
    onRetry: reader.onRetry,
  })
  const decoder = new TextDecoder()
  const bytes = body.getReader()
  try {
    for (;;) {
      const { done, value } = await bytes.read().catch(() => ({ done: true, value: undefined }))
      if (done) return
      received = []
      const text = decoder.decode(value, { stream: true })
      unparsed += text
      // The parser scans an unfinished line again with each feed.
      if (text.includes("\n")) {
        parser.feed(unparsed)
        unparsed = ""
      }
      if (reader.onChunk(received)) return
    }
  } finally {
    bytes.cancel().catch(() => {})
  }
}
