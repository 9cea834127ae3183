/**
 * Parses the bytes of a response as server-sent events with JSON data, as the HTML standard has it
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation). Of the fields it reads
 * `data` and `retry`. It knows nothing of runs.
 */

/** The callbacks of a reader of a stream. */
export interface SseReader<T> {
  /** The events of one chunk of bytes, in order; perhaps none. Return true to stop reading. */
  onChunk(events: T[]): boolean
  /** The server's `retry:` line, in milliseconds. */
  onRetry(ms: number): void
}

/** Reads until the body ends or breaks off, or `onChunk` returns true. Rejects where an event is not JSON. */
export async function readSse<T>(body: ReadableStream<Uint8Array>, reader: SseReader<T>): Promise<void> {
  let data: string[] = []
  /** The line that has begun, in the pieces in which it came. */
  let line: string[] = []
  let endsInReturn = false
  const decoder = new TextDecoder() // drops a byte order mark
  const bytes = body.getReader()
  try {
    for (;;) {
      const { done, value } = await bytes.read().catch(() => ({ done: true, value: undefined }))
      if (done) return
      const text = decoder.decode(value, { stream: true })
      const events: T[] = []
      // A line end of two characters may be cut in two.
      const pieces = text.slice(+(endsInReturn && text[0] === "\n")).split(/\r\n|\r|\n/)
      endsInReturn = text ? text.endsWith("\r") : endsInReturn
      for (const [at, piece] of pieces.entries()) {
        if (at) {
          const [, field, content = ""] = /^(data|retry|$)(?:: ?(.*))?$/s.exec(line.join("")) ?? []
          if (field === "data") data.push(content)
          if (field === "retry") reader.onRetry(Number(content))
          if (field === "") {
            if (data.length) events.push(JSON.parse(data.join("\n")))
            data = []
          }
          line = []
        }
        line.push(piece)
      }
      if (reader.onChunk(events)) return
    }
  } finally {
    bytes.cancel().catch(() => {})
  }
}
