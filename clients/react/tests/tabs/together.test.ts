// @vitest-environment jsdom
/** Tabs that go on with one conversation: what is written in one, or at an old link, joins the newest run; and branches. */
import { beforeEach, describe, expect, it, vi } from "vitest"
import { browserTabs } from "../../src/tabs/index"
import { open, said } from "../chats"
import { withHistory } from "../golden"
import { FakeServer } from "../server"
import { eventually, settle } from "../waiting"

const PLAIN = withHistory("plain")

beforeEach(() => localStorage.clear())

function tab(server: FakeServer, runId?: string, isShared = true) {
  return open(server, { runId, tabs: browserTabs(isShared) })
}

function starts(server: FakeServer) {
  return server.asked("POST", /^\/runs$/).map(({ body }) => body)
}

/** A tab with one run that has ended, and the run's id. */
async function talked(isShared = true) {
  const server = await FakeServer.open({ name: PLAIN })
  const first = tab(server, undefined, isShared)
  await first.chat.send("One")
  await first.reaches("ready")
  return { server, first, runId: server.run.id }
}

describe("a second tab", () => {
  it("goes on with the first, live", async () => {
    const { server, first, runId } = await talked()
    const second = tab(server, runId)
    await eventually(() => expect(second.now().messages).toHaveLength(2))
    server.plays = [{ name: PLAIN, shown: "turn_start" }]
    await first.chat.send("Two")
    await second.reaches("streaming")
    expect(second.now().runId).toBe(server.run.id)
    server.run.show("all")
    await second.reaches("ready")
    expect(second.now().messages).toEqual(first.now().messages)
    expect(starts(server)).toHaveLength(2)
  })

  it("that writes at the end that it still shows sends its message to the run that goes on", async () => {
    const { server, first, runId } = await talked()
    const second = tab(server, runId)
    await eventually(() => expect(second.now().messages).toHaveLength(2))
    server.plays = [{ name: PLAIN, shown: "turn_start" }]
    const channel = vi.spyOn(BroadcastChannel.prototype, "postMessage").mockImplementation(() => {}) // it is still on its way
    await first.chat.send("Two")
    expect(second.now().runId).toBe(runId)
    expect(await second.chat.send("And this")).toBe(true)
    channel.mockRestore()
    expect(starts(server)).toHaveLength(2)
    expect(server.asked("POST", /messages$/).map(({ path, body }) => [path, body])).toEqual([
      [`/runs/${server.run.id}/messages`, { message: "And this", when: "steer" }],
    ])
    expect(second.now().runId).toBe(server.run.id)
  })

  it("that shares nothing stays where it is", async () => {
    const { server, first, runId } = await talked(false)
    const second = tab(server, runId, false)
    await eventually(() => expect(second.now().messages).toHaveLength(2))
    await first.chat.send("Two")
    await first.reaches("ready")
    await settle()
    expect(second.now()).toMatchObject({ runId, status: "ready" })
    expect(localStorage.length).toBe(0)
  })
})

describe("an old link", () => {
  it("leads to the newest run", async () => {
    const { server, first, runId } = await talked()
    for (const text of ["Two", "Three"]) {
      await first.chat.send(text)
      await first.reaches("ready")
    }
    first.leave()
    const old = tab(server, runId)
    await eventually(() => expect(old.now().messages).toHaveLength(6))
    expect(old.now().runId).toBe(server.run.id)
    await old.chat.send("Four")
    expect(starts(server).at(-1)).toMatchObject({
      from: { runId: [...server.runs.keys()][2] },
      input: "Four",
    })
  })

  it("shows its own run where the newer one is gone", async () => {
    const { server, first, runId } = await talked()
    await first.chat.send("Two")
    await first.reaches("ready")
    first.leave()
    server.runs.delete(server.run.id)
    const old = tab(server, runId)
    await eventually(() => expect(old.now().messages).toHaveLength(2))
    await settle()
    expect(old.now()).toMatchObject({ runId, status: "ready", error: undefined })
    expect(await old.chat.send("Three")).toBe(true)
    expect(starts(server).at(-1)).toMatchObject({ from: { runId }, input: "Three" })
  })

  it("to a live run stays there", async () => {
    const server = await FakeServer.open()
    server.put("decision_approve", "agent_pause")
    const { reaches } = tab(server, server.run.id)
    await reaches("paused")
  })
})

describe("a damaged or missing storage", () => {
  it.each(["{", "null", '{"a":1}', "[null]"])("of %s is none", async (stored) => {
    localStorage.setItem("agentkit.runs", stored)
    const { first } = await talked()
    await first.chat.send("Two")
    await first.reaches("ready")
    expect(first.now().messages).toHaveLength(4)
  })

  it("leaves a chat with what it knows itself", async () => {
    vi.spyOn(Storage.prototype, "getItem").mockImplementation(() => {
      throw new DOMException("denied", "SecurityError")
    })
    vi.spyOn(Storage.prototype, "setItem").mockImplementation(() => {
      throw new DOMException("full", "QuotaExceededError")
    })
    const { first, runId } = await talked()
    await first.chat.send("Two")
    await first.reaches("ready")
    await first.chat.regenerate()
    await first.reaches("ready")
    expect(Object.keys(first.now().branches)).toEqual(["2"])
    expect(first.now().runId).not.toBe(runId)
  })
})

describe("branches", () => {
  /** The ids of the runs, in the order in which they were started. */
  const runs = (server: FakeServer) => [...server.runs.keys()] as [string, string, string, string, string]

  it("of an edited message stand beside each other, and each can be opened", async () => {
    const { server, first } = await talked()
    const { chat, now, reaches } = first
    await chat.send("Two")
    await reaches("ready")
    expect(now().branches).toEqual({})
    await chat.edit(2, "Two, rather")
    await reaches("ready")
    const [, two, rather] = runs(server)
    expect(now().branches).toEqual({ 2: [two, rather] })
    expect(await chat.open(two)).toBe(true)
    expect(said(now().messages)[2]).toEqual({ role: "user", content: "Two" })
    expect(now().branches).toEqual({ 2: [two, rather] })
    await chat.send("Three")
    await reaches("ready")
    const [, , , three] = runs(server)
    expect(now().branches).toEqual({ 2: [rather, three] })
    await chat.open(rather)
    expect(now().messages).toHaveLength(4)
    expect(now().branches).toEqual({ 2: [rather, three] })
  })

  it("of an edited first message, too", async () => {
    const { server, first } = await talked()
    const { chat, now, reaches } = first
    await chat.edit(0, "One, rather")
    await reaches("ready")
    await chat.edit(0, "Or this")
    await reaches("ready")
    const [one, rather, other] = runs(server)
    expect(now().branches).toEqual({ 0: [one, rather, other] })
  })

  it("of an answer that is generated again, and of a fork within a run", async () => {
    const server = await FakeServer.open({ name: "follow_up" }, { name: PLAIN })
    const { chat, now, reaches } = tab(server)
    await chat.send("One")
    await reaches("ready")
    await chat.edit(2, "Rather this") // a follow-up of the first run
    await reaches("ready")
    await chat.regenerate()
    await reaches("ready")
    const [one, rather, again] = runs(server)
    expect(now().branches).toEqual({ 2: [one, rather, again] })
  })

  it("are known after a reload, and in other tabs", async () => {
    const { server, first } = await talked()
    const { chat, reaches } = first
    await chat.send("Two")
    await reaches("ready")
    await chat.edit(2, "Two, rather")
    await reaches("ready")
    const [, two, rather] = runs(server)
    const second = tab(server, rather)
    await eventually(() => expect(second.now().branches).toEqual({ 2: [two, rather] }))
    await chat.edit(2, "Or this")
    await eventually(() => expect(Object.values(second.now().branches)[0]).toHaveLength(3))
    expect(second.now().runId).toBe(rather) // another branch is not where this one goes on
  })

  it("keep being the same object while nothing changes", async () => {
    const { server, first } = await talked()
    await first.chat.regenerate()
    await first.reaches("ready")
    const { branches } = first.now()
    server.plays = [{ name: PLAIN, shown: "turn_start" }]
    await first.chat.send("Two")
    await first.reaches("streaming")
    server.run.show("all")
    await first.reaches("ready")
    expect(first.now().branches).toEqual({ 0: [expect.any(String), server.run.id] })
    expect(first.now().branches).not.toBe(branches)
    const before = first.now().branches
    await first.chat.steer("refused: nothing goes on")
    expect(first.now().branches).toBe(before)
  })
})
