/** Reading a run's events over connections that break in every way. */
import { expect, it } from "vitest"
import { Client } from "../../src/core/client"
import { follow } from "../../src/core/follow"
import type { AgentEvent } from "../../src/core/types"
import { golden } from "../golden"
import { FakeServer, problem, QUICK, RUN } from "../server"
import { eventually, settle } from "../waiting"

const { events } = golden("decision_approve")

function seqs(got: AgentEvent[]): number[] {
  return got.map((event) => (event.type === "stream_reset" ? -event.run.lastSeq : event.seq))
}

function reading(server: FakeServer, more: Partial<Parameters<typeof follow>[2]> = {}) {
  const got: AgentEvent[] = []
  const stop = new AbortController()
  const client = new Client({ api: server.url, retry: QUICK })
  const done = follow(client, RUN, {
    after: 0,
    signal: stop.signal,
    onEvents: (some) => got.push(...some),
    ...more,
  })
  done.catch(() => {}) // a test that wants to know awaits it
  return { got, stop, done }
}

const ALL = events.map((event) => event.seq)

it("reads a whole log and ends with it", async () => {
  const server = await FakeServer.open()
  server.put("decision_approve")
  const { got, done } = reading(server)
  await done
  expect(got).toEqual(events)
})

it("stays open across a pause and goes on live", async () => {
  const server = await FakeServer.open()
  const run = server.put("decision_approve", "agent_pause")
  const { got, done } = reading(server)
  await eventually(() => expect(got).toHaveLength(11))
  run.show("all")
  await done
  expect(seqs(got)).toEqual(ALL)
  expect(server.requests).toHaveLength(1)
})

it("reconnects after its last seq when the connection breaks in the middle of an event", async () => {
  const server = await FakeServer.open()
  const run = server.put("decision_approve", 5)
  const { got, done } = reading(server)
  for (const shown of [9, 14, 20]) {
    await eventually(() => expect(got).toHaveLength(run.shown))
    run.cut()
    await eventually(() => expect(run.streams.size).toBe(1))
    run.show(shown)
  }
  await eventually(() => expect(got).toHaveLength(20))
  run.show("all")
  await done
  expect(seqs(got)).toEqual(ALL)
  expect(server.requests.map((request) => request.headers["last-event-id"])).toEqual([
    undefined,
    "5",
    "9",
    "14",
  ])
})

it("reconnects when the server closes the stream before the end", async () => {
  const server = await FakeServer.open()
  const run = server.put("decision_approve", 5)
  const { got, done } = reading(server)
  await eventually(() => expect(got).toHaveLength(5))
  for (const stream of run.streams) stream.end()
  await eventually(() => expect(server.requests).toHaveLength(2))
  run.show("all")
  await done
  expect(seqs(got)).toEqual(ALL)
})

it("drops what comes twice, and fetches what is missing", async () => {
  const server = await FakeServer.open()
  const run = server.put("decision_approve", 5)
  const { got, done } = reading(server)
  await eventually(() => expect(got).toHaveLength(5))
  run.shown = 11
  for (const stream of run.streams) run.write(stream, [...events.slice(2, 7), ...events.slice(9, 11)])
  await eventually(() => expect(server.requests).toHaveLength(2))
  expect(server.requests[1]?.headers["last-event-id"]).toBe("7")
  run.show("all")
  await done
  expect(seqs(got)).toEqual(ALL)
})

it("takes a stream_reset for events that are no longer kept, and goes on behind it", async () => {
  const server = await FakeServer.open()
  const run = server.put("decision_approve", "agent_pause")
  run.kept = 9
  const { got, done } = reading(server)
  await eventually(() => expect(got).toHaveLength(1))
  run.show("all")
  await done
  expect(seqs(got)).toEqual([-11, ...ALL.slice(11)])
})

it("ends with a stream_reset of a run that has ended", async () => {
  const server = await FakeServer.open()
  server.put("decision_approve").kept = 9
  const { got, done } = reading(server)
  await done
  expect(seqs(got)).toEqual([-events.length])
})

it("ends when the server says that there is nothing left", async () => {
  const server = await FakeServer.open()
  server.put("decision_approve")
  const { got, done } = reading(server, { after: events.length })
  await done
  expect(got).toEqual([])
  expect(server.requests).toHaveLength(1)
})

it("waits for a server that is away, at least as long as it asks for", async () => {
  const server = await FakeServer.open()
  server.put("plain")
  const times: number[] = []
  server.reply = (_, response) => {
    times.push(performance.now())
    if (times.length > 3) return undefined
    problem(response, 503, "store_unavailable", {}, times.length === 2 ? { "Retry-After": "1" } : {})
    return true
  }
  const seen: boolean[] = []
  const { done } = reading(server, { onConnection: (connected) => seen.push(connected) })
  await done
  expect(seen).toEqual([false, false, false, true])
  expect((times[2] as number) - (times[1] as number)).toBeGreaterThanOrEqual(990)
})

it.each([
  [401, "unauthenticated"],
  [403, "forbidden"],
  [404, "run_not_found"],
  [400, "invalid_last_event_id"],
])("does not come back after %i", async (status, code) => {
  const server = await FakeServer.open()
  server.reply = (_, response) => {
    problem(response, status, code)
    return true
  }
  await expect(reading(server).done).rejects.toMatchObject({ name: "AgentKitError", status, code })
  expect(server.requests).toHaveLength(1)
})

it("does not hurry back to a server that closes at once and asks for no wait", async () => {
  const server = await FakeServer.open()
  server.reply = (_, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" }).end("retry: 0\n\n")
    return true
  }
  const { stop, done } = reading(server)
  await eventually(() => expect(server.requests.length).toBeGreaterThan(1))
  await settle()
  expect(server.requests.length).toBeLessThan(20) // after 5 ms, 10, 20, 20 …, or half as long
  stop.abort()
  await done
})

it("does not come back to a server that answers with a page", async () => {
  const server = await FakeServer.open()
  server.reply = (_, response) => {
    response.writeHead(200, { "Content-Type": "text/html" }).end("<html>")
    return true
  }
  await expect(reading(server).done).rejects.toMatchObject({ code: "not_agentkit" })
})

it("takes a silent stream for a dead one", async () => {
  const server = await FakeServer.open()
  const run = server.put("plain", 4)
  const { got, done } = reading(server, { silence: 100 })
  await eventually(() => expect(server.requests.length).toBeGreaterThan(1))
  run.show("all")
  await done
  expect(seqs(got)).toEqual(golden("plain").events.map((event) => event.seq))
})

it("keeps a stream that only brings comments", async () => {
  const server = await FakeServer.open()
  const run = server.put("plain", 4)
  const { got, done } = reading(server, { silence: 300 })
  for (let beat = 0; beat < 6; beat++) {
    await eventually(() => expect(run.streams.size).toBe(1))
    for (const stream of run.streams) stream.write(": keepalive\n\n")
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  expect(server.requests).toHaveLength(1)
  run.show("all")
  await done
  expect(got).toHaveLength(golden("plain").events.length)
})

it("tells nothing after an abort, and closes the connection", async () => {
  const server = await FakeServer.open()
  const run = server.put("decision_approve", 5)
  const { got, stop, done } = reading(server)
  await eventually(() => expect(got).toHaveLength(5))
  stop.abort()
  run.show("all")
  await done
  await eventually(() => expect(run.streams.size).toBe(0))
  expect(got).toHaveLength(5)
  expect(server.requests).toHaveLength(1)
})

it("survives every cut of the bytes", async () => {
  const bytes = new TextEncoder().encode(
    `retry: 10\n\n${events.map((event) => `id: ${event.seq}\ndata: ${JSON.stringify({ ...event, note: "Zürich 🦊" })}\n\n`).join("")}`,
  )
  for (const size of [1, 2, 3, 7, 64]) {
    const chunks: Uint8Array[] = []
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.slice(at, at + size))
    const body = new ReadableStream({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(chunk)
        controller.close()
      },
    })
    const answer = async () => new Response(body, { headers: { "Content-Type": "text/event-stream" } })
    const got: AgentEvent[] = []
    const signal = new AbortController().signal
    await follow(new Client({ fetch: answer }), RUN, {
      after: 0,
      signal,
      onEvents: (some) => got.push(...some),
    })
    expect(got).toEqual(events.map((event) => ({ ...event, note: "Zürich 🦊" })))
  }
})
