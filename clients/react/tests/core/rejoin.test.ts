/** A page that comes back: what it shows is what it would have shown had it stayed. */
import { describe, expect, it, vi } from "vitest"
import type { ChatSnapshot, ClientTool } from "../../src/core/options"
import { open } from "../chats"
import { CASES, golden } from "../golden"
import { FakeServer, problem, RUN } from "../server"
import { eventually, settle } from "../waiting"

async function rejoined(name: string, shown: Parameters<FakeServer["put"]>[1] = "all") {
  const server = await FakeServer.open()
  const run = server.put(name, shown)
  return { server, run, ...open(server, { runId: RUN }) }
}

it("a run that is streaming shows its open message whole, and goes on", async () => {
  const { run, now, reaches, told } = await rejoined("thinking", "message_update")
  run.show(run.shown + 1)
  await eventually(() => expect(now().messages).toHaveLength(2))
  await eventually(() =>
    expect(now().messages[1]?.content).toEqual([{ type: "thinking", thinking: "Short, then." }]),
  )
  expect(now()).toMatchObject({ status: "streaming", runId: RUN })
  run.show("all")
  await reaches("ready")
  expect(now().messages).toEqual(golden("thinking").messages)
  expect(told.onMessage).toHaveBeenCalledOnce()
})

it("while the log is replayed, the page shows the snapshot and never less", async () => {
  const { chat, reaches, run } = await rejoined("decision_approve", "tool_execution_start")
  const lengths: number[] = []
  chat.subscribe(() => lengths.push(chat.getSnapshot().messages.length))
  await eventually(() => expect(chat.getSnapshot().tools).toHaveProperty("refund"))
  run.show("all")
  await reaches("ready")
  expect(lengths[0]).toBe(2)
  expect(lengths).toEqual([...lengths].sort())
})

it("a paused run shows what is pending, tells of it, and takes the answer", async () => {
  const { chat, run, now, reaches, told } = await rejoined("decision_approve", "agent_pause")
  await reaches("paused")
  expect(now().pendingDecision).toMatchObject({ toolName: "refund" })
  await eventually(() => expect(told.onDecisionPending).toHaveBeenCalledOnce())
  expect(told.onEvent).not.toHaveBeenCalled()
  expect(await chat.respondWithDecision({ approved: true })).toBe(true)
  run.show("all")
  await reaches("ready")
  expect(now().messages).toEqual(golden("decision_approve").messages)
  expect(told.onFinish).toHaveBeenCalledOnce()
})

it("an ended run is shown as it ended, and is no news", async () => {
  const { server, reaches, now, told } = await rejoined("decision_approve")
  await eventually(() => expect(now().messages).toHaveLength(4))
  expect(now().messages).toEqual(golden("decision_approve").messages)
  await reaches("ready")
  await settle()
  for (const callback of Object.values(told)) expect(callback).not.toHaveBeenCalled()
  expect(server.requests.map(({ path }) => path)).toEqual([`/runs/${RUN}`, `/runs/${RUN}/events`])
})

it("an ended run without tools is read with one request", async () => {
  const { server, reaches, now } = await rejoined("plain")
  await reaches("ready")
  await settle()
  expect(now().messages).toEqual(golden("plain").messages)
  expect(server.requests).toHaveLength(1)
})

it("a failed run shows its error", async () => {
  const { reaches, told } = await rejoined("provider_error")
  expect((await reaches("error")).error).toMatchObject({ code: "provider_error" })
  expect(told.onError).not.toHaveBeenCalled()
})

it("a run whose log was trimmed is shown from its snapshot", async () => {
  const { run, now, reaches, told } = await rejoined("decision_approve", "agent_pause")
  run.kept = 6
  await reaches("paused")
  await eventually(() => expect(told.onDecisionPending).toHaveBeenCalledOnce())
  expect(now().messages).toHaveLength(2)
  run.show("all")
  await reaches("ready")
  expect(now().messages).toEqual(golden("decision_approve").messages)
})

it("a run that is gone is an error, and the chat can be used", async () => {
  const server = await FakeServer.open({ name: "plain" })
  const { chat, now, reaches, told, statuses } = open(server, { runId: "gone", initialMessages: [] })
  expect(now()).toMatchObject({ status: "submitted", isStreaming: true })
  expect((await reaches("error")).error).toMatchObject({ code: "run_not_found", status: 404 })
  expect(told.onError).toHaveBeenCalledOnce()
  expect(await chat.send("Hello")).toBe(true)
  await reaches("ready")
  expect(statuses.at(-1)).toBe("ready")
})

it("a server that is away is waited for", async () => {
  const server = await FakeServer.open()
  server.put("decision_pending")
  let refusals = 9 // a start would give up after 5
  server.reply = (_, response) => {
    if (refusals-- <= 0) return undefined
    problem(response, 503, "store_unavailable")
    return true
  }
  const { reaches, told, now } = open(server, { runId: RUN })
  await eventually(() => expect(now().isReconnecting).toBe(true))
  expect((await reaches("paused")).messages).toHaveLength(2)
  await eventually(() => expect(now().isReconnecting).toBe(false))
  expect(told.onError).not.toHaveBeenCalled()
})

it("a run whose last events the server has lost is joined anew by rejoin", async () => {
  const { chat, server, run, now, reaches } = await rejoined("decision_approve", "agent_pause")
  await reaches("paused")
  await eventually(() => expect(run.streams.size).toBe(1))
  run.shown -= 1
  run.cut()
  expect((await reaches("error")).error).toMatchObject({ code: "invalid_last_event_id" })
  const before = now().messages
  chat.rejoin()
  expect(now()).toMatchObject({ status: "submitted", messages: before })
  await eventually(() => expect(now().status).toBe("streaming"))
  run.show("all")
  await reaches("ready")
  expect(now().messages).toEqual(golden("decision_approve").messages)
  expect(server.asked("GET", /events$/).at(-1)?.headers).not.toHaveProperty("last-event-id")
})

it("a message can be sent after a rejoined run, with all that was said", async () => {
  const server = await FakeServer.open({ name: "plain" })
  server.put("decision_approve", "all", "before")
  const { chat, now } = open(server, { runId: "before" })
  await eventually(() => expect(now().messages).toHaveLength(4))
  await chat.send("And?")
  expect(server.asked("POST", /^\/runs$/)[0]?.body).toEqual({
    agent: "a",
    from: { runId: "before" },
    input: "And?",
  })
})

it("a run whose server refused once is followed again by a callback that says so", async () => {
  const server = await FakeServer.open()
  const run = server.put("plain", 3)
  let refused = 0
  server.reply = (request, response) => {
    if (!request.path.endsWith("/events") || refused++ > 0) return undefined
    problem(response, 403, "forbidden")
    return true
  }
  const made = open(server, { runId: RUN, onError: () => made.chat.rejoin() })
  await eventually(() => expect(run.streams.size).toBe(1))
  run.show("all")
  await made.reaches("ready")
})

describe("a run whose log lost its end", () => {
  /** A run that waits for `locate`; the server loses so many events of it. */
  async function losing(locate: ClientTool, ...isReady: ((server: FakeServer) => void)[]) {
    const server = await FakeServer.open()
    const run = server.put("client_tool", "agent_pause")
    const made = open(server, { runId: RUN, clientTools: { locate } })
    for (const ready of isReady) await eventually(() => ready(server))
    await eventually(() => expect(run.streams.size).toBe(1))
    await settle()
    run.shown -= 1
    run.cut()
    await eventually(() => expect(made.now().error).toMatchObject({ code: "invalid_last_event_id" }))
    made.chat.rejoin()
    return { server, ...made }
  }
  const results = (server: FakeServer) => server.asked("POST", /resume$/).map(({ body }) => body.result)

  it("executes a client tool again whose result is lost", async () => {
    const locate = vi.fn(() => "Zürich")
    const { server } = await losing(locate, (server) => expect(results(server)).toHaveLength(1))
    await eventually(() => expect(results(server)).toEqual(["Zürich", "Zürich"]))
    expect(locate).toHaveBeenCalledTimes(2)
  })

  it("wants nothing more of a tool that was executing", async () => {
    const signals: AbortSignal[] = []
    const { chat } = await losing((_, { signal }) => {
      signals.push(signal)
      return new Promise(() => {})
    })
    await eventually(() => expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]))
    await chat.abort()
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, true])
  })
})

describe.each(CASES)("%s", (name) => {
  it("looks after a reload, at every event, as it did before", async () => {
    const server = await FakeServer.open()
    const { events } = golden(name)
    const run = server.put(name, 1)
    const stayed = open(server, { runId: RUN })
    for (const shown of [
      ...new Set([Math.ceil(events.length / 3), Math.ceil((events.length * 2) / 3), events.length]),
    ]) {
      run.show(shown)
      const came = open(server, { runId: RUN })
      await eventually(() => expect(came.changed).toHaveBeenCalled())
      await settle()
      await eventually(() => expect(shape(came.now())).toEqual(shape(stayed.now())))
      came.leave()
    }
    expect(stayed.now().messages).toEqual(golden(name).messages)
  })
})

function shape({ messages, status, pendingDecisions, error }: ChatSnapshot) {
  return { messages, status, pendingDecisions, error: error && { code: error.code } }
}
