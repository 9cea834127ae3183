/** The store that a page reads: subscribed to and left, its callbacks and their mistakes. */
import { describe, expect, it, vi } from "vitest"
import { Chat } from "../../src/core/chat"
import { open } from "../chats"
import { golden, withHistory } from "../golden"
import { FakeServer, problem, QUICK } from "../server"
import { eventually, settle } from "../waiting"

describe("the store", () => {
  it("makes no request and tells nothing before it is subscribed to", async () => {
    const server = await FakeServer.open()
    server.put("decision_pending")
    const chat = new Chat({ api: server.url, agent: "a", runId: server.run.id })
    expect(chat.getSnapshot()).toBe(chat.getSnapshot())
    await settle()
    expect(server.requests).toEqual([])
  })

  it("stops reading when nobody subscribes any more, and goes on with the next", async () => {
    const log = withHistory("plain")
    const server = await FakeServer.open({ name: log, shown: "turn_start" })
    const { chat, leave, changed, reaches, told } = open(server)
    await chat.send("Hello")
    await reaches("streaming")
    leave()
    const times = changed.mock.calls.length
    await eventually(() => expect(server.run.streams.size).toBe(0))
    server.run.show("all")
    await settle()
    expect(changed).toHaveBeenCalledTimes(times)
    expect(told.onFinish).not.toHaveBeenCalled()
    const again = vi.fn()
    const end = chat.subscribe(again)
    await eventually(() => expect(chat.getSnapshot().status).toBe("ready"))
    expect(chat.getSnapshot().messages).toEqual(log.messages)
    expect(told.onEvent).toHaveBeenCalledTimes(log.events.length)
    end()
  })

  it("tells nobody about a start that is refused after the last one left", async () => {
    const server = await FakeServer.open()
    server.reply = (_, response) => {
      problem(response, 403, "forbidden")
      return true
    }
    const { chat, leave, changed, told } = open(server)
    const sending = chat.send("Hello")
    leave()
    const times = changed.mock.calls.length
    expect(await sending).toBe(false)
    expect(changed).toHaveBeenCalledTimes(times)
    expect(told.onError).not.toHaveBeenCalled()
  })

  it("survives a callback that throws", async () => {
    const server = await FakeServer.open({ name: "plain" })
    const thrown: unknown[] = []
    const later = vi.spyOn(globalThis, "setTimeout").mockImplementation(((run: () => void, ms?: number) => {
      if (ms !== undefined) return setInterval(run, 1e9)
      try {
        run()
      } catch (error) {
        thrown.push(error)
      }
      return 0
    }) as unknown as typeof setTimeout)
    const onEvent = () => {
      throw new Error("the page's mistake")
    }
    const chat = new Chat({ api: server.url, agent: "a", retry: QUICK, onEvent })
    const ready = new Promise<void>((resolve) => {
      chat.subscribe(() => chat.getSnapshot().status === "ready" && resolve())
    })
    await chat.send("Hello")
    await ready
    later.mockRestore()
    expect(thrown).toHaveLength(golden("plain").events.length)
  })

  it("may be used again from within a callback", async () => {
    const server = await FakeServer.open({ name: "plain" })
    let asked = 0
    const onFinish = vi.fn(() => {
      if (asked++ === 0) void made.chat.send("And?")
    })
    const made = open(server, { onFinish })
    await made.chat.send("Hello")
    await eventually(() => expect(onFinish).toHaveBeenCalledTimes(2))
    expect(made.now()).toMatchObject({ status: "ready", error: undefined })
  })
})
