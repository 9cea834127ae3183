/** A conversation: send, stream, send again, fail, reload, steer, follow up. */
import { describe, expect, it } from "vitest"
import type { AssistantMessage } from "../../src/core/types"
import { open, said } from "../chats"
import { golden, withHistory } from "../golden"
import { FakeServer, problem } from "../server"
import { eventually } from "../waiting"

describe("send", () => {
  it("starts a run and streams it to its end", async () => {
    const server = await FakeServer.open({ name: withHistory("plain"), shown: "agent_start" })
    const { chat, statuses, now, reaches, told } = open(server)
    expect(now()).toMatchObject({ status: "ready", messages: [], isStreaming: false })
    const sending = chat.send("Refund order A-1, please.")
    expect(now()).toMatchObject({ status: "submitted", isStreaming: true })
    expect(said(now().messages)).toEqual([{ role: "user", content: "Refund order A-1, please." }])
    expect(await sending).toBe(true)
    server.run.show("turn_start")
    await reaches("streaming")
    server.run.show("all")
    const { messages, runId, usage, error } = await reaches("ready")
    expect(messages).toEqual(golden("plain").messages)
    expect(runId).toBe(server.run.id)
    expect(usage.totalTokens).toBeGreaterThan(0)
    expect(error).toBeUndefined()
    expect(statuses).toEqual(["submitted", "streaming", "ready"])
    expect(told.onMessage.mock.calls.map(([message]) => message)).toEqual([messages[1]])
    expect(told.onEvent.mock.calls.map(([event]) => event)).toEqual(server.run.script.events)
    expect(told.onFinish.mock.calls).toEqual([
      [{ runId, status: "completed", messages, usage, error: undefined }],
    ])
    expect(told.onError).not.toHaveBeenCalled()
  })

  it("sends agent, history and body, and a key of its own for every run", async () => {
    const server = await FakeServer.open({ name: "plain" })
    const initialMessages = [{ role: "user" as const, content: "before" }]
    const body = () => ({ metadata: { tenant: "t" }, model: "openai:x", limits: { maxTurns: 3 } })
    const { chat, reaches } = open(server, { initialMessages, body })
    await chat.send([{ type: "text", text: "Hello" }])
    await reaches("ready")
    await chat.send("And?")
    await reaches("ready")
    const starts = server.asked("POST", /^\/runs$/)
    expect(starts[0]?.body).toMatchObject({
      agent: "a",
      metadata: { tenant: "t" },
      model: "openai:x",
      limits: { maxTurns: 3 },
    })
    expect(said(starts[0]?.body.messages)).toEqual([
      ...initialMessages,
      { role: "user", content: [{ type: "text", text: "Hello" }] },
    ])
    expect(starts[1]?.body).toEqual({
      ...body(),
      agent: "a",
      from: { runId: server.run.id.replace(/2$/, "1") },
      input: "And?",
    })
    const keys = starts.map((start) => start.headers["idempotency-key"])
    expect(keys[0]).toMatch(/^\d+-\d+-\d+-\d+$/)
    expect(keys[0]).not.toBe(keys[1])
  })

  it("is an error while a run is going on, and changes nothing else", async () => {
    const server = await FakeServer.open({ name: withHistory("plain"), shown: "turn_start" })
    const { chat, reaches, now, told } = open(server)
    await chat.send("Hello")
    await reaches("streaming")
    expect(await chat.send("And?")).toBe(false)
    expect(now()).toMatchObject({ status: "streaming", error: { code: "run_active" } })
    expect(now().messages).toHaveLength(1)
    expect(told.onError).toHaveBeenCalledOnce()
    expect(server.asked("POST", /^\/runs$/)).toHaveLength(1)
    server.run.show("all")
    await reaches("ready")
  })

  it("keeps the user's message when the server refuses, and reload sends it again", async () => {
    const server = await FakeServer.open({ name: withHistory("plain") })
    server.reply = (_, response) => {
      problem(response, 404, "agent_not_found")
      return true
    }
    const { chat, now, reaches, told } = open(server)
    expect(await chat.send("Hello")).toBe(false)
    expect(now()).toMatchObject({
      status: "error",
      isStreaming: false,
      error: { code: "agent_not_found", status: 404 },
    })
    expect(said(now().messages)).toEqual([{ role: "user", content: "Hello" }])
    expect(told.onError).toHaveBeenCalledOnce()
    server.reply = () => undefined
    expect(await chat.reload()).toBe(true)
    await reaches("ready")
    expect(now().error).toBeUndefined()
    expect(said(server.asked("POST", /^\/runs$/)[1]?.body.messages)).toEqual([
      { role: "user", content: "Hello" },
    ])
  })

  it("is one run where the answer to the start got lost", async () => {
    const server = await FakeServer.open({ name: withHistory("plain") })
    let lost = 0
    server.reply = (request, response) => {
      if (request.method !== "POST" || lost++ > 0) return undefined
      response.socket?.destroy()
      return true
    }
    const { chat, reaches } = open(server)
    await chat.send("Hello")
    await reaches("ready")
    expect(
      new Set(server.asked("POST", /^\/runs$/).map((start) => start.headers["idempotency-key"])).size,
    ).toBe(1)
  })
})

describe("the open message", () => {
  it("is the last one, grows by deltas, and leaves the others the same objects", async () => {
    const server = await FakeServer.open({ name: withHistory("thinking"), shown: "turn_start" })
    const { chat, now } = open(server)
    await chat.send("Hello")
    const seen = new Set<string>()
    const first = () => now().messages[0]
    await eventually(() => expect(now().status).toBe("streaming"))
    const user = first()
    for (let shown = server.run.shown + 1; shown <= server.run.script.events.length; shown++) {
      server.run.show(shown)
      await eventually(() => expect(server.run.script.events[shown - 1]?.seq).toBe(shown))
      await settleBriefly()
      const last = now().messages.at(-1) as AssistantMessage
      if (last.role === "assistant") seen.add(JSON.stringify(last.content))
      expect(first()).toBe(user)
    }
    expect([...seen].slice(0, 3)).toEqual([
      "[]",
      '[{"type":"thinking","thinking":""}]',
      '[{"type":"thinking","thinking":"Short, then."}]',
    ])
    expect(said(now().messages)).toEqual(said(golden("thinking").messages))
  })

  it("is dropped when its attempt is void, and told about once", async () => {
    const log = withHistory("model_retry")
    const server = await FakeServer.open({ name: log, shown: "message_update" })
    const { chat, now, reaches, told } = open(server)
    await chat.send("Hello")
    await eventually(() => expect(now().messages).toHaveLength(2))
    server.run.show("message_discard")
    await eventually(() => expect(now().messages).toHaveLength(1))
    expect(now().retry).toMatchObject({ maxAttempts: 2 })
    server.run.show("all")
    await reaches("ready")
    expect(now().messages).toEqual(log.messages)
    expect(now().retry).toBeUndefined()
    expect(told.onMessage).toHaveBeenCalledOnce()
  })
})

function settleBriefly(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 15))
}

describe("a run that fails", () => {
  it("is an error with the run's code, told once", async () => {
    const server = await FakeServer.open({ name: "provider_error" })
    const { chat, reaches, told } = open(server)
    await chat.send("Hello")
    const { error, messages } = await reaches("error")
    expect(error).toMatchObject({ code: "provider_error", status: 0 })
    expect(messages).toEqual(golden("provider_error").messages)
    expect(told.onError.mock.calls).toEqual([[error]])
    expect(told.onFinish).toHaveBeenCalledOnce()
    expect(told.onFinish.mock.calls[0]?.[0]).toMatchObject({ status: "failed", error })
  })

  it("does not stand in the way of the next", async () => {
    const server = await FakeServer.open({ name: "provider_error" }, { name: withHistory("plain") })
    const { chat, reaches, now } = open(server)
    await chat.send("Hello")
    await reaches("error")
    await chat.send("Again?")
    await reaches("ready")
    expect(now().error).toBeUndefined()
  })

  it("is an error where nobody answered in time", async () => {
    const server = await FakeServer.open({ name: "decision_expire_abort" })
    const { chat, reaches } = open(server)
    await chat.send("Hello")
    expect((await reaches("error")).error).toMatchObject({ code: "expired" })
  })

  it("is none where somebody else aborted it", async () => {
    const server = await FakeServer.open({ name: "abort_paused" })
    const { chat, reaches, told } = open(server)
    await chat.send("Hello")
    expect((await reaches("ready")).error).toBeUndefined()
    expect(told.onFinish.mock.calls[0]?.[0]).toMatchObject({ status: "aborted" })
  })
})

describe("reload", () => {
  it("runs the last message of the user again, without what came after it", async () => {
    const server = await FakeServer.open({ name: "decision_approve" })
    const { chat, reaches } = open(server)
    await chat.send("Hello")
    await reaches("ready")
    await chat.reload()
    await reaches("ready")
    const [, again] = server.asked("POST", /^\/runs$/)
    expect(said(again?.body.messages)).toEqual(said(golden("decision_approve").messages.slice(0, 1)))
  })

  it.each(["provider_error", "abort_paused"])(
    "of a run that ended as in %s lets the model go on from it",
    async (name) => {
      const server = await FakeServer.open({ name }, { name: "plain" })
      const { chat, reaches, now } = open(server)
      await chat.send("Hello")
      await eventually(() => expect(["ready", "error"]).toContain(now().status))
      const failed = server.run.id
      expect(await chat.reload()).toBe(true)
      expect(server.asked("POST", /^\/runs$/)[1]?.body).toEqual({ agent: "a", from: { runId: failed } })
      await reaches("ready")
    },
  )

  it("is an error where there is nothing to run again", async () => {
    const { chat, now } = open(await FakeServer.open())
    expect(await chat.reload()).toBe(false)
    expect(now()).toMatchObject({ status: "ready", error: { code: "no_run" } })
  })
})

describe("steer and followUp", () => {
  it("reach the run that is going on, and its log shows them", async () => {
    const server = await FakeServer.open({ name: "follow_up", shown: 4 })
    const { chat, reaches, now } = open(server)
    await chat.send("Hello")
    await reaches("streaming")
    expect(await chat.followUp("And order A-2?")).toBe(true)
    expect(await chat.steer("Quick.")).toBe(true)
    expect(server.asked("POST", /messages$/).map((request) => request.body)).toEqual([
      { message: "And order A-2?", when: "followUp" },
      { message: "Quick.", when: "steer" },
    ])
    server.run.show("all")
    await reaches("ready")
    expect(now().messages).toEqual(golden("follow_up").messages)
  })

  it("wait for the run's id where it is just being started", async () => {
    const server = await FakeServer.open({ name: "follow_up", shown: 4 })
    const { chat } = open(server)
    const sending = chat.send("Hello")
    expect(await chat.steer("Quick.")).toBe(true)
    await sending
    expect(server.requests.findIndex((request) => request.path.endsWith("/messages"))).toBeGreaterThan(0)
  })

  it("are errors where no run is going on", async () => {
    const server = await FakeServer.open()
    const { chat, now } = open(server)
    expect(await chat.steer("Quick.")).toBe(false)
    expect(now()).toMatchObject({ status: "ready", error: { code: "no_run" } })
    expect(server.requests).toEqual([])
  })

  it("show the server's refusal, and the run goes on", async () => {
    const server = await FakeServer.open({ name: "follow_up", shown: 4 })
    const { chat, now, reaches } = open(server)
    await chat.send("Hello")
    await reaches("streaming")
    server.reply = (request, response) => {
      if (request.method !== "POST") return undefined
      problem(response, 409, "run_not_paused")
      return true
    }
    expect(await chat.steer("Quick.")).toBe(false)
    expect(now()).toMatchObject({ status: "streaming", error: { code: "run_not_paused" } })
  })
})

describe("the stream", () => {
  it("shows that it reconnects, and loses nothing", async () => {
    const log = withHistory("plain")
    const server = await FakeServer.open({ name: log, shown: "message_update" })
    const { chat, now, reaches, told } = open(server)
    await chat.send("Hello")
    await reaches("streaming")
    let away = true
    server.reply = (_, response) => {
      if (away) problem(response, 503, "store_unavailable")
      return away
    }
    server.run.cut()
    await eventually(() => expect(now().isReconnecting).toBe(true))
    expect(now().status).toBe("streaming")
    away = false
    await eventually(() => expect(now().isReconnecting).toBe(false))
    server.run.show("all")
    await reaches("ready")
    expect(now().messages).toEqual(log.messages)
    expect(told.onEvent).toHaveBeenCalledTimes(log.events.length)
    expect(told.onError).not.toHaveBeenCalled()
  })

  it("that is refused is an error, and rejoin goes on where it was", async () => {
    const log = withHistory("plain")
    const server = await FakeServer.open({ name: log, shown: "turn_start" })
    const { chat, now, reaches, told } = open(server)
    await chat.send("Hello")
    await reaches("streaming")
    server.reply = (_, response) => {
      problem(response, 401, "unauthenticated")
      return true
    }
    server.run.cut()
    expect((await reaches("error")).error).toMatchObject({ code: "unauthenticated" })
    server.reply = () => undefined
    chat.rejoin()
    server.run.show("all")
    await reaches("ready")
    expect(now().messages).toEqual(log.messages)
    expect(told.onEvent).toHaveBeenCalledTimes(log.events.length)
    expect(told.onError).toHaveBeenCalledOnce()
  })

  it("that was reset shows the snapshot in the place of what was there", async () => {
    const server = await FakeServer.open({ name: "decision_approve", shown: 8 })
    const { chat, now, reaches } = open(server)
    await chat.send("Hello")
    await eventually(() => expect(now().messages).toHaveLength(2))
    const { run } = server
    run.shown = 20
    run.kept = 15
    run.cut()
    await eventually(() => expect(now().messages).toHaveLength(3))
    run.show("all")
    await reaches("ready")
    expect(now().messages).toEqual(golden("decision_approve").messages)
  })
})
