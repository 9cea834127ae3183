// @vitest-environment jsdom
/** Several tabs of one browser: one stream for a run, few for many runs, and nobody misses an event or sees one twice. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { browserTabs } from "../../src/tabs/index"
import { open } from "../chats"
import { golden } from "../golden"
import { FakeLocks } from "../locks"
import { FakeServer, RUN } from "../server"
import { eventually, settle } from "../waiting"

let locks: FakeLocks

beforeEach(() => {
  locks = new FakeLocks()
  vi.stubGlobal("navigator", { locks, onLine: true })
  Object.defineProperty(document, "hidden", { value: false, configurable: true })
  localStorage.clear()
})
afterEach(() => vi.unstubAllGlobals())

function tab(server: FakeServer, runId = RUN) {
  return open(server, { runId, tabs: browserTabs() })
}

/** The seqs that a tab was told of. */
function seqs({ told }: ReturnType<typeof tab>): number[] {
  return told.onEvent.mock.calls.map(([event]) => (event as { seq: number }).seq)
}

function streams(server: FakeServer): number {
  return [...server.runs.values()].reduce((sum, run) => sum + run.streams.size, 0)
}

it("seven tabs on one run have one stream, and all of them show everything", async () => {
  const server = await FakeServer.open()
  const run = server.put("decision_approve", 1)
  const tabs = Array.from({ length: 7 }, () => tab(server))
  await eventually(() => expect(run.streams.size).toBe(1))
  await settle()
  run.show("agent_pause")
  for (const { reaches } of tabs) await reaches("paused")
  await eventually(() => expect(run.streams.size).toBe(1))
  await tabs[6]?.chat.respondWithDecision({ approved: true })
  run.show("all")
  for (const { reaches, now } of tabs) {
    await reaches("ready")
    expect(now().messages).toEqual(golden("decision_approve").messages)
  }
})

it("each event reaches each tab once and in order, also of a tab that comes later", async () => {
  const { events } = golden("decision_approve")
  const server = await FakeServer.open()
  const run = server.put("decision_approve", 1)
  const first = tab(server)
  await eventually(() => expect(run.streams.size).toBe(1))
  run.show("message_update")
  await eventually(() => expect(first.now().messages).toHaveLength(2))
  const second = tab(server)
  await eventually(() => expect(second.now().messages).toHaveLength(2))
  run.show("all")
  await second.reaches("ready")
  expect(seqs(first)).toEqual(events.slice(1).map(({ seq }) => seq))
  const seen = seqs(second)
  expect(seen).toEqual(events.slice(-seen.length).map(({ seq }) => seq))
  expect(second.now().messages).toEqual(golden("decision_approve").messages)
})

it("when the reading tab goes, another goes on from the last event, without gap or duplicate", async () => {
  const { events } = golden("decision_approve")
  const server = await FakeServer.open()
  const run = server.put("decision_approve", 1)
  const first = tab(server)
  await eventually(() => expect(run.streams.size).toBe(1))
  const second = tab(server)
  await settle()
  run.show("agent_pause")
  await second.reaches("paused")
  const { seq } = events.find(({ type }) => type === "agent_pause") as { seq: number }
  first.leave()
  await eventually(() =>
    expect(server.asked("GET", /events$/).at(-1)?.headers["last-event-id"]).toBe(`${seq}`),
  )
  await eventually(() => expect(run.streams.size).toBe(1))
  run.show("all")
  await second.reaches("ready")
  expect(seqs(second)).toEqual(events.slice(1).map((event) => event.seq))
})

it("a stream that breaks off is said in every tab, and made anew by one", async () => {
  const server = await FakeServer.open()
  const run = server.put("plain", "turn_start")
  const [first, second] = [tab(server), tab(server)]
  await eventually(() => expect(run.streams.size).toBe(1))
  await settle()
  let away = true
  server.reply = (_, response) => {
    if (away) response.socket?.destroy()
    return away
  }
  run.cut()
  await eventually(() => expect([first, second].map(({ now }) => now().isReconnecting)).toEqual([true, true]))
  away = false
  await eventually(() =>
    expect([first, second].map(({ now }) => now().isReconnecting)).toEqual([false, false]),
  )
  expect(run.streams.size).toBe(1)
  run.show("all")
  for (const { reaches } of [first, second]) await reaches("ready")
})

it("a tab that stands still loses the stream to one that a person looks at", async () => {
  const server = await FakeServer.open()
  const run = server.put("plain", "turn_start")
  const never = new Promise(() => {})
  const frozen = locks.request(`agentkit.run.${RUN}`, {}, () => never).catch((error) => error)
  const { reaches } = tab(server)
  await reaches("streaming")
  await settle()
  expect(run.streams.size).toBe(0)
  await eventually(() => expect(run.streams.size).toBe(1))
  expect(await frozen).toMatchObject({ name: "AbortError" })
  run.show("all")
  await reaches("ready")
})

it("a tab that is refused says so, and the others ask for themselves", async () => {
  const server = await FakeServer.open()
  const run = server.put("plain", "turn_start")
  const first = open(server, { runId: RUN, tabs: browserTabs(), headers: { "X-Tab": "1" } })
  await eventually(() => expect(run.streams.size).toBe(1))
  const second = tab(server)
  await settle()
  server.reply = (request, response) => {
    if (request.headers["x-tab"] !== "1") return undefined
    response.writeHead(403, { "Content-Type": "application/problem+json" })
    response.end(JSON.stringify({ code: "forbidden", title: "no", status: 403 }))
    return true
  }
  run.cut()
  await first.reaches("error")
  await eventually(() => expect(run.streams.size).toBe(1))
  run.show("all")
  await second.reaches("ready")
})

describe("tabs on many runs", () => {
  it("have four streams at most, and all of them get on", async () => {
    const server = await FakeServer.open()
    const ids = Array.from({ length: 7 }, (_, at) => RUN.replace(/1$/, `${at + 1}`))
    for (const id of ids) server.put("decision_approve", "agent_pause", id)
    const tabs = ids.map((id) => tab(server, id))
    let most = 0
    const counting = setInterval(() => {
      most = Math.max(most, streams(server))
    }, 5)
    for (const { reaches } of tabs) await reaches("paused")
    for (const run of server.runs.values()) run.show("all")
    for (const { reaches, now } of tabs) {
      await eventually(() => expect(now().status).toBe("ready"))
      expect((await reaches("ready")).messages).toEqual(golden("decision_approve").messages)
      expect(now().isReconnecting).toBe(false)
    }
    clearInterval(counting)
    expect(most).toBeLessThanOrEqual(4)
  }, 60_000)
})

describe("where there are no Web Locks", () => {
  it("each tab has a stream of its own", async () => {
    vi.stubGlobal("navigator", { onLine: true })
    const server = await FakeServer.open()
    const run = server.put("plain", "turn_start")
    const tabs = [tab(server), tab(server)]
    await eventually(() => expect(run.streams.size).toBe(2))
    run.show("all")
    for (const { reaches } of tabs) await reaches("ready")
  })
})
