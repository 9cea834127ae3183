/** The stream that trips parsers up, which pytest feeds to httpx-sse (tests/golden/make_streams.py), read by ours. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, test, vi } from "vitest"
import { readSse } from "../../src/core/sse"

const FILE = join(import.meta.dirname, "../../../../tests/golden/streams/awkward.json")
const GOLDEN: { stream: string; events: { id: string; data: string }[] } = JSON.parse(
  readFileSync(FILE, "utf8"),
)
const BYTES = new Uint8Array(Buffer.from(GOLDEN.stream, "base64"))
const EVENTS = GOLDEN.events.map(({ data }) => JSON.parse(data))

async function read(...chunks: Uint8Array<ArrayBuffer>[]) {
  const found: unknown[] = []
  const retries: number[] = []
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk)
      controller.close()
    },
  })
  await readSse(body, {
    onChunk: (events) => {
      found.push(...events)
      return false
    },
    onRetry: (ms) => retries.push(ms),
  })
  return { found, retries }
}

test("awkward text arrives as it was said", async () => {
  expect(await read(BYTES)).toEqual({ found: EVENTS, retries: [1000] })
})

test("wherever the network cuts the stream in two, inside a character too, the events are the same", async () => {
  for (let at = 1; at < BYTES.length; at += 1) {
    const { found } = await read(BYTES.slice(0, at), BYTES.slice(at))
    expect(found, `cut at ${at}`).toEqual(EVENTS)
  }
})

test("a long line is read in a time that grows as it does", async () => {
  const bytes = new TextEncoder().encode(`data: ${JSON.stringify("y".repeat(8e6))}\n\n`)
  const chunks = Array.from({ length: Math.ceil(bytes.length / 16384) }, (_, at) =>
    bytes.slice(at * 16384, (at + 1) * 16384),
  )
  const parse = vi.spyOn(String.prototype, "indexOf")
  const { found } = await read(...chunks)
  expect(found).toHaveLength(1)
  const searched = parse.mock.contexts.reduce<number>((sum, text) => sum + String(text).length, 0)
  expect(searched).toBeLessThan(10 * bytes.length)
})

test("a stream that breaks off is read as far as it came", async () => {
  const found: unknown[] = []
  let pulls = 0
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (pulls++) controller.error(new Error("reset"))
      else controller.enqueue(new TextEncoder().encode("data: 1\n\ndata: 2"))
    },
  })
  const onChunk = (events: unknown[]) => found.push(...events) < 0
  await readSse(body, { onChunk, onRetry() {} })
  expect(found).toEqual([1])
})

test("a byte at a time is enough", async () => {
  const { found } = await read(...Array.from(BYTES, (byte) => Uint8Array.of(byte)))
  expect(found).toEqual(EVENTS)
})
