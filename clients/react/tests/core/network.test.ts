// @vitest-environment jsdom
/** A network that goes and comes: said at once, and the stream is made anew at once. */
import { beforeEach, describe, expect, it, vi } from "vitest"
import { open } from "../chats"
import { golden } from "../golden"
import { FakeServer, RUN } from "../server"
import { eventually, settle } from "../waiting"

/** Waits between attempts are too long for a test: what happens in it happens for another reason. */
const SLOW = { base: 60_000, cap: 60_000 }

beforeEach(() => setHidden(false))

function setHidden(hidden: boolean): void {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true })
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true }))
}

function setOnline(online: boolean): void {
  vi.spyOn(navigator, "onLine", "get").mockReturnValue(online)
  window.dispatchEvent(new Event(online ? "online" : "offline"))
}

/** A server that answers nothing until it is told to. */
function away(server: FakeServer): () => void {
  server.reply = (_, response) => {
    response.socket?.destroy()
    return true
  }
  return () => {
    server.reply = () => undefined
  }
}

async function watching() {
  const server = await FakeServer.open()
  server.retry = SLOW.base
  const run = server.put("plain", "turn_start")
  const made = open(server, { runId: RUN, retry: SLOW })
  await eventually(() => expect(run.streams.size).toBe(1))
  await made.reaches("streaming")
  return { server, run, ...made }
}

describe("a network that goes", () => {
  it("is said at once, also where no run goes on", async () => {
    const { now } = open(await FakeServer.open())
    expect(now().isOffline).toBe(false)
    setOnline(false)
    expect(now().isOffline).toBe(true)
    setOnline(true)
    expect(now().isOffline).toBe(false)
  })

  it("is noticed by a stream that would have stayed silent", async () => {
    const { server, now } = await watching()
    away(server)
    setOnline(false)
    await eventually(() => expect(now()).toMatchObject({ isReconnecting: true, isOffline: true }))
  })

  it("and did not, for this server, changes nothing", async () => {
    const { run, now, reaches } = await watching()
    setOnline(false) // another network than that of the server
    await eventually(() => expect(run.streams.size).toBe(1))
    await settle()
    expect(now().isReconnecting).toBe(false)
    run.show("all")
    expect((await reaches("ready")).messages).toEqual(golden("plain").messages)
  })
})

describe("a network that comes back", () => {
  it("ends the wait for the next attempt", async () => {
    const { server, run, now, reaches } = await watching()
    const back = away(server)
    setOnline(false)
    await eventually(() => expect(now().isReconnecting).toBe(true))
    back()
    setOnline(true)
    await eventually(() => expect(now().isReconnecting).toBe(false))
    run.show("all")
    expect((await reaches("ready")).messages).toEqual(golden("plain").messages)
  })

  it("lets a run be joined that could not be", async () => {
    const server = await FakeServer.open()
    server.put("plain", "turn_start")
    const back = away(server)
    const { now, reaches } = open(server, { runId: RUN, retry: SLOW })
    await eventually(() => expect(now().isReconnecting).toBe(true))
    back()
    setOnline(true)
    await reaches("streaming")
  })
})

describe("a page that is looked at again", () => {
  it("ends the wait for the next attempt", async () => {
    const { server, now } = await watching()
    const back = away(server)
    server.run.cut()
    await eventually(() => expect(now().isReconnecting).toBe(true))
    back()
    setHidden(true)
    await settle()
    expect(now().isReconnecting).toBe(true)
    setHidden(false)
    await eventually(() => expect(now().isReconnecting).toBe(false))
  })

  it("makes a stream anew that has long been silent, and no other", async () => {
    const { server } = await watching()
    const asked = () => server.asked("GET", /events$/).length
    setHidden(false)
    await settle()
    expect(asked()).toBe(1)
    const later = Date.now() + 10_000
    vi.spyOn(Date, "now").mockReturnValue(later)
    setHidden(false)
    await eventually(() => expect(asked()).toBe(2))
  })
})

it("a chat that nobody watches listens to nothing", async () => {
  const add = vi.spyOn(window, "addEventListener")
  const { leave, changed } = open(await FakeServer.open())
  expect(add.mock.calls.map(([type]) => type)).toEqual(["offline", "online", "visibilitychange"])
  leave()
  const times = changed.mock.calls.length
  setOnline(false)
  expect(changed).toHaveBeenCalledTimes(times)
})
