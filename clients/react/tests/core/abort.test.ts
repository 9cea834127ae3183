/** Abort, and answers that come too late: what belongs to a run that is over here changes nothing. */
import type { ServerResponse } from "node:http"
import { expect, it, vi } from "vitest"
import type { Chat } from "../../src/core/chat"
import { open } from "../chats"
import { FakeServer, json, problem } from "../server"
import { eventually, settle } from "../waiting"

/** Holds back the answers to requests of a kind until the test lets them go. */
function hold(server: FakeServer, method: string, path: RegExp) {
  const held: ServerResponse[] = []
  server.reply = (request, response) => {
    if (request.method !== method || !path.test(request.path)) return undefined
    held.push(response)
    return true
  }
  return held
}

async function streaming() {
  const server = await FakeServer.open({ name: "abort_running_model", shown: 7 }, { name: "plain", shown: 3 })
  const made = open(server)
  await made.chat.send("Hello")
  await eventually(() =>
    expect(made.now().messages.at(-1)?.content).toEqual([{ type: "text", text: "well" }]),
  )
  return { server, ...made }
}

it("stops at once, keeps what was said, and posts the abort", async () => {
  const { server, chat, now, told } = await streaming()
  const aborting = chat.abort("enough")
  expect(now()).toMatchObject({ status: "ready", isStreaming: false, error: undefined })
  expect(now().messages.at(-1)).toMatchObject({
    content: [{ type: "text", text: "well" }],
    stopReason: "aborted",
  })
  expect(await aborting).toBe(true)
  expect(server.asked("POST", /abort$/).map((request) => request.body)).toEqual([{ reason: "enough" }])
  expect(told.onFinish).toHaveBeenCalledOnce()
  expect(told.onFinish.mock.calls[0]?.[0]).toMatchObject({ status: "aborted", error: undefined })
})

it("tells nobody of the server's answer to the abort", async () => {
  const { server, chat, now, changed } = await streaming()
  const aborting = chat.abort()
  const [before, times] = [now(), changed.mock.calls.length]
  expect(await aborting).toBe(true)
  expect(server.asked("POST", /abort$/)).toHaveLength(1)
  expect(now()).toBe(before)
  expect(changed).toHaveBeenCalledTimes(times)
})

it("lets no later event change anything", async () => {
  const { server, chat, now, told, changed } = await streaming()
  await chat.abort()
  await settle()
  const [before, times, events] = [now(), changed.mock.calls.length, told.onEvent.mock.calls.length]
  server.run.show("all")
  await settle()
  expect(now()).toBe(before)
  expect(changed).toHaveBeenCalledTimes(times)
  expect(told.onEvent).toHaveBeenCalledTimes(events)
  expect(told.onFinish).toHaveBeenCalledOnce()
})

it("does so too when a callback aborts in the middle of what came together", async () => {
  const server = await FakeServer.open({ name: "plain" })
  const onEvent = vi.fn((event) => {
    if (event.type === "turn_start") void made.chat.abort()
  })
  const made = open(server, { onEvent })
  await made.chat.send("Hello")
  // The whole log came in one chunk and was folded before: the run had ended, and abort found nothing to end.
  await eventually(() => expect(onEvent.mock.calls.map(([event]) => event.type).at(-1)).toBe("agent_end"))
  const other = await FakeServer.open({ name: "abort_running_model", shown: 7 })
  const seen: string[] = []
  const second = open(other, {
    onEvent: (event) => {
      seen.push(event.type)
      if (event.type === "turn_start") void second.chat.abort()
    },
  })
  await second.chat.send("Hello")
  await eventually(() => expect(second.now().status).toBe("ready"))
  await settle()
  expect(seen.at(-1)).toBe("turn_start")
})

it("drops an open message that has nothing in it yet", async () => {
  const server = await FakeServer.open({ name: "abort_running_model", shown: 5 })
  const { chat, now } = open(server)
  await chat.send("Hello")
  await eventually(() => expect(now().messages).toHaveLength(2))
  await chat.abort()
  expect(now().messages).toHaveLength(1)
})

it("while paused, takes away what is pending", async () => {
  const server = await FakeServer.open({ name: "decision_approve", shown: "agent_pause" })
  const { chat, reaches, now } = open(server)
  await chat.send("Hello")
  await reaches("paused")
  await chat.abort()
  expect(now()).toMatchObject({ status: "ready", pendingDecisions: [], pendingDecision: undefined })
})

it("of a start that is not answered yet aborts the run as soon as it has an id", async () => {
  const server = await FakeServer.open({ name: "plain", shown: 3 })
  const held = hold(server, "POST", /^\/runs$/)
  const { chat, now } = open(server)
  const sending = chat.send("Hello")
  await eventually(() => expect(held).toHaveLength(1))
  const aborting = chat.abort()
  expect(now().status).toBe("ready")
  json(held[0] as ServerResponse, 202, server.put("plain", 3).snapshot)
  expect(await sending).toBe(false)
  expect(await aborting).toBe(true)
  expect(server.asked("POST", /abort$/)).toHaveLength(1)
  expect(server.asked("GET", /./)).toEqual([])
  expect(now().messages).toHaveLength(1)
})

it("that the server refuses is an error, and the chat stays stopped", async () => {
  const { server, chat, now, told } = await streaming()
  server.reply = (request, response) => {
    if (request.method !== "POST") return undefined
    problem(response, 403, "forbidden")
    return true
  }
  expect(await chat.abort()).toBe(false)
  expect(now()).toMatchObject({ status: "ready", error: { code: "forbidden" } })
  expect(told.onError).toHaveBeenCalledOnce()
})

it("is posted until the server has heard it, however long it is away", async () => {
  const { server, chat, now, told } = await streaming()
  server.reply = (request, response) => {
    if (!request.path.endsWith("abort") || server.asked("POST", /abort$/).length > 8) return undefined
    problem(response, 503, "store_unavailable")
    return true
  }
  expect(await chat.abort()).toBe(true)
  expect(server.asked("POST", /abort$/)).toHaveLength(9)
  expect(now()).toMatchObject({ status: "ready", error: undefined })
  expect(told.onError).not.toHaveBeenCalled()
})

it("ends a run, too, that the server does not show any more", async () => {
  const { server, chat, now, reaches, told } = await streaming()
  server.reply = (request, response) => {
    if (!request.path.endsWith("events")) return undefined
    problem(response, 401, "unauthenticated")
    return true
  }
  server.run.cut()
  await reaches("error")
  expect(await chat.abort()).toBe(true)
  expect(server.asked("POST", /abort$/)).toHaveLength(1)
  expect(now()).toMatchObject({ status: "ready", error: undefined })
  expect(told.onFinish).toHaveBeenCalledOnce()
})

it("of a run that never began does nothing", async () => {
  const server = await FakeServer.open()
  server.reply = (_, response) => {
    problem(response, 404, "agent_not_found")
    return true
  }
  const { chat, now, told } = open(server)
  expect(await chat.send("Hello")).toBe(false)
  expect(await chat.abort()).toBe(false)
  expect(now()).toMatchObject({ status: "error", error: { code: "agent_not_found" } })
  expect(told.onFinish).not.toHaveBeenCalled()
  expect(server.requests).toHaveLength(1)
})

it("where no run is going on does nothing", async () => {
  const server = await FakeServer.open()
  const { chat, changed } = open(server)
  expect(await chat.abort()).toBe(false)
  expect(changed).not.toHaveBeenCalled()
  expect(server.requests).toEqual([])
})

it("makes way for the next run, which the answer to the abort does not touch", async () => {
  const { server, chat, now } = await streaming()
  const held = hold(server, "POST", /abort$/)
  const aborting = chat.abort()
  server.run.isAborted = true
  expect(await chat.send("Something else")).toBe(true)
  const { runId } = now()
  expect(server.asked("POST", /^\/runs$/)[1]?.body).toMatchObject({
    from: { runId: server.runs.keys().next().value },
    input: "Something else",
  })
  await eventually(() => expect(server.run.streams.size).toBe(1))
  await settle()
  const before = now()
  problem(held[0] as ServerResponse, 403, "forbidden")
  expect(await aborting).toBe(false)
  expect(now()).toBe(before)
  expect(now()).toMatchObject({ runId, error: undefined })
})

it("leaves an answer to the start of an older run without effect", async () => {
  const server = await FakeServer.open({ name: "plain", shown: 3 })
  const held = hold(server, "POST", /^\/runs$/)
  const { chat, now, told } = open(server)
  const first = chat.send("Hello")
  await eventually(() => expect(held).toHaveLength(1))
  void chat.abort()
  server.reply = () => undefined
  expect(await chat.send("Something else")).toBe(true)
  const { runId } = now()
  problem(held[0] as ServerResponse, 404, "agent_not_found")
  expect(await first).toBe(false)
  expect(now()).toMatchObject({ runId, error: undefined })
  expect(told.onError).not.toHaveBeenCalled()
})

it("leaves an answer to a decision of an older run without effect", async () => {
  const server = await FakeServer.open({ name: "decision_approve", shown: "agent_pause" })
  const { chat, reaches, now, told } = open(server)
  await chat.send("Hello")
  await reaches("paused")
  const held = hold(server, "POST", /resume$/)
  const answering = chat.respondWithDecision({ approved: true })
  await eventually(() => expect(held).toHaveLength(1))
  void chat.abort()
  await chat.send("Something else")
  await reaches("paused")
  problem(held[0] as ServerResponse, 422, "decision_invalid", { errors: [] })
  expect(await answering).toBe(false)
  expect(now()).toMatchObject({ status: "paused", error: undefined })
  expect(now().pendingDecisions).toHaveLength(1)
  expect(told.onError).not.toHaveBeenCalled()
})

it("leaves the refusal of what was under way without effect", async () => {
  for (const [path, ask] of [
    [/messages$/, (chat: Chat) => chat.steer("more")],
    [/resume$/, (chat: Chat) => chat.respondWithDecision({ approved: true })],
  ] as const) {
    const server = await FakeServer.open({ name: "decision_approve", shown: "agent_pause" })
    const { chat, reaches, now, told } = open(server)
    await chat.send("Hello")
    await reaches("paused")
    const held = hold(server, "POST", path)
    const asking = ask(chat)
    await eventually(() => expect(held).toHaveLength(1))
    await chat.abort()
    const before = now()
    problem(held[0] as ServerResponse, 409, "run_not_paused")
    expect(await asking).toBe(false)
    expect(now()).toBe(before)
    expect(told.onError).not.toHaveBeenCalled()
  }
})

it("sends no message any more that waited for the start", async () => {
  const server = await FakeServer.open({ name: "plain", shown: 3 })
  const held = hold(server, "POST", /^\/runs$/)
  const { chat, now, told } = open(server)
  const sending = chat.send("Hello")
  const steering = chat.steer("more")
  await eventually(() => expect(held).toHaveLength(1))
  const aborting = chat.abort()
  json(held[0] as ServerResponse, 202, server.put("plain", 3).snapshot)
  expect(await Promise.all([sending, steering, aborting])).toEqual([false, false, true])
  expect(server.asked("POST", /messages$/)).toEqual([])
  expect(now().error).toBeUndefined()
  expect(told.onError).not.toHaveBeenCalled()
})

it("by a callback is the last that the other callbacks hear", async () => {
  const server = await FakeServer.open({ name: "decisions_two", shown: "agent_pause" })
  const onDecisionPending = vi.fn(() => void made.chat.abort())
  const made = open(server, { onDecisionPending })
  await made.chat.send("Hello")
  await made.reaches("ready")
  expect(onDecisionPending).toHaveBeenCalledOnce()
})
