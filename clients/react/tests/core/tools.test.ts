/** Client-side tools that this page executes. */
import { describe, expect, it, onTestFinished, vi } from "vitest"
import type { ClientTool } from "../../src/core/options"
import { open } from "../chats"
import { golden } from "../golden"
import { FakeServer, json, problem, RUN } from "../server"
import { eventually, settle } from "../waiting"

async function running(name: string, clientTools: Record<string, ClientTool>) {
  const server = await FakeServer.open({ name, shown: "agent_pause" })
  const made = open(server, { clientTools })
  await made.chat.send("Where am I?")
  return { server, ...made }
}

/** A run that waits for `locate`, on a server that refuses so many results, as one does that restarts. */
async function awayWith(locate: ClientTool, times: number) {
  const server = await FakeServer.open()
  server.put("client_tool", "agent_pause")
  let left = times
  server.reply = (request, response) => {
    if (!request.path.endsWith("resume") || left-- <= 0) return undefined
    problem(response, 503, "store_unavailable")
    return true
  }
  return { server, ...open(server, { runId: RUN, clientTools: { locate } }) }
}

function results(server: FakeServer) {
  return server.asked("POST", /resume$/).map((request) => request.body)
}

it("a registered tool is executed once, and its result is posted", async () => {
  const locate = vi.fn(async () => "Zürich")
  const { server, reaches, now, told } = await running("client_tool", { locate })
  await eventually(() => expect(results(server)).toHaveLength(1))
  expect(results(server)).toEqual([
    { result: "Zürich", decisionId: expect.any(String), toolCallId: "locate" },
  ])
  expect(locate.mock.calls).toEqual([
    [{}, { runId: RUN, toolCallId: "locate", signal: expect.any(AbortSignal) }],
  ])
  server.run.cut()
  server.run.show("all")
  await reaches("ready")
  expect(now().messages).toEqual(golden("client_tool").messages)
  expect(locate).toHaveBeenCalledOnce()
  expect(told.onDecisionPending).not.toHaveBeenCalled()
})

it("is nothing that a person is asked for", async () => {
  const { reaches, now } = await running("client_tool", { locate: () => new Promise(() => {}) })
  await reaches("paused")
  expect(now().pendingDecisions).toHaveLength(1)
  expect(now().pendingDecision).toBeUndefined()
})

it("a tool that throws gives an error result", async () => {
  const locate = () => {
    throw new Error("no permission")
  }
  const { server } = await running("client_tool", { locate })
  await eventually(() => expect(results(server)).toHaveLength(1))
  expect(results(server)[0].result).toEqual({ content: "no permission", isError: true })
})

it("a tool that returns nothing gives null", async () => {
  const { server } = await running("client_tool", { locate: () => undefined })
  await eventually(() => expect(results(server)).toHaveLength(1))
  expect(results(server)[0]).toHaveProperty("result", null)
})

it.each([1n, () => 1, Symbol("here")])(
  "a tool that gives %s, which is no JSON, gives an error result",
  async (given) => {
    const { server } = await running("client_tool", { locate: () => given })
    await eventually(() => expect(results(server)).toHaveLength(1))
    expect(results(server)[0].result).toEqual({ content: expect.stringMatching(/./), isError: true })
  },
)

it("a result is posted however long the server is away, and the tool is executed once", async () => {
  const locate = vi.fn(() => "Zürich")
  const { server, told, now } = await awayWith(locate, 12) // a start or a decision would give up after 5
  await eventually(() => expect(results(server)).toHaveLength(13))
  await eventually(() => expect(now().pendingDecisions).toEqual([]))
  expect(results(server).at(-1)).toMatchObject({ result: "Zürich" })
  expect(locate).toHaveBeenCalledOnce()
  expect(told.onError).not.toHaveBeenCalled()
})

it("a result that nobody needs any more is posted no longer, and is no error", async () => {
  const { server, chat, told, now } = await awayWith(() => "Zürich", Number.POSITIVE_INFINITY)
  await eventually(() => expect(results(server).length).toBeGreaterThan(6))
  await chat.abort()
  const posted = results(server).length
  await settle()
  expect(results(server).length).toBeLessThanOrEqual(posted + 1) // one may have been on its way
  expect(now().error).toBeUndefined()
  expect(told.onError).not.toHaveBeenCalled()
})

it("a tool that nobody registered is told as pending, and respondWithDecision gives its result", async () => {
  const { server, chat, reaches, now, told } = await running("client_tool", {})
  await reaches("paused")
  expect(told.onDecisionPending).toHaveBeenCalledOnce()
  expect(now().pendingDecision).toMatchObject({ kind: "client_execute", toolName: "locate" })
  await chat.respondWithDecision("Bern")
  expect(results(server)).toMatchObject([{ result: "Bern" }])
})

it("a tool that is registered later executes what waits for it already, once", async () => {
  const { server, chat, reaches, now, told } = await running("client_tool", {})
  await reaches("paused")
  const locate = vi.fn(() => eventually(() => expect(now().pendingDecision).toBeUndefined()))
  const options = { api: server.url, agent: "a", clientTools: { locate } }
  chat.configure(options)
  chat.configure(options)
  await eventually(() => expect(results(server)).toHaveLength(1))
  expect(locate).toHaveBeenCalledOnce()
  expect(told.onDecisionPending).toHaveBeenCalledOnce()
})

it("a result that the server refuses is an error, and another can be given", async () => {
  const { server, chat, reaches, now } = await running("client_tool", {
    locate: () => {
      server.reply = (request, response) => {
        if (request.body?.result !== "too long") return undefined
        problem(response, 413, "payload_too_large")
        return true
      }
      return "too long"
    },
  })
  await eventually(() => expect(now().error).toMatchObject({ code: "payload_too_large" }))
  await reaches("paused")
  expect(await chat.respondWithDecision("short", { toolCallId: "locate" })).toBe(true)
  expect(results(server)).toMatchObject([{ result: "too long" }, { result: "short" }])
})

it("a tool that is registered while nobody watches executes when somebody does", async () => {
  const { server, chat, leave, reaches } = await running("client_tool", {})
  await reaches("paused")
  leave()
  const locate = vi.fn(() => "Zürich")
  chat.configure({ api: server.url, agent: "a", clientTools: { locate } })
  onTestFinished(chat.subscribe(() => {}))
  await eventually(() => expect(results(server)).toHaveLength(1))
  expect(locate).toHaveBeenCalledOnce()
})

it("a tool that goes away while it executes still gives its result, and nobody else is asked", async () => {
  let done = (_: string) => {}
  const { server, chat, told, reaches } = await running("client_tool", {
    locate: () =>
      new Promise<string>((resolve) => {
        done = resolve
      }),
  })
  await reaches("paused")
  chat.configure({ api: server.url, agent: "a", onDecisionPending: told.onDecisionPending })
  done("Zürich")
  await eventually(() => expect(results(server)).toHaveLength(1))
  expect(told.onDecisionPending).not.toHaveBeenCalled()
})

it("names of JavaScript's own are no registered tools", async () => {
  const log = JSON.parse(JSON.stringify(golden("client_tool")).replaceAll('"locate"', '"constructor"'))
  const server = await FakeServer.open({ name: log, shown: "agent_pause" })
  const { chat, reaches, now } = open(server, { clientTools: {} })
  await chat.send("x")
  await reaches("paused")
  expect(now().pendingDecision?.toolName).toBe("constructor")
  expect(results(server)).toEqual([])
})

it("a tool with a decision is executed after the person has decided", async () => {
  const photo = vi.fn(() => "click")
  const { server, chat, reaches } = await running("client_tool_with_decision", { photo })
  await reaches("paused")
  expect(photo).not.toHaveBeenCalled()
  await chat.respondWithDecision({ approved: true })
  server.run.show("tool_client_execute_pending")
  await eventually(() => expect(results(server)).toHaveLength(2))
  expect(results(server)[1]).toMatchObject({ result: "click" })
  expect(photo).toHaveBeenCalledOnce()
  server.run.show("all")
  await reaches("ready")
})

it("a result that another page was quicker with is no error", async () => {
  const { server, now, told } = await running("client_tool", {
    locate: () => {
      server.reply = (request, response) => {
        if (request.method !== "POST") return undefined
        problem(response, 409, "decision_conflict")
        return true
      }
      return settle()
    },
  })
  await eventually(() => expect(results(server)).toHaveLength(1))
  await settle()
  expect(now().error).toBeUndefined()
  expect(told.onError).not.toHaveBeenCalled()
})

it("an abort tells the tool, and its result is not posted", async () => {
  let signal: AbortSignal | undefined
  const { server, chat, reaches } = await running("client_tool", {
    locate: async (_, context) => {
      signal = context.signal
      await settle()
    },
  })
  await reaches("paused")
  await chat.abort()
  expect(signal?.aborted).toBe(true)
  await settle()
  await settle()
  expect(results(server)).toEqual([])
})

describe("on rejoin", () => {
  it("only what is still pending is executed", async () => {
    const locate = vi.fn(() => "Zürich")
    const server = await FakeServer.open()
    const run = server.put("client_tool", "turn_end") // answered long ago, and still running
    const { now, reaches } = open(server, { runId: RUN, clientTools: { locate } })
    await eventually(() => expect(now().messages).toHaveLength(3))
    await settle()
    expect(locate).not.toHaveBeenCalled()
    run.show("all")
    await reaches("ready")
    expect(results(server)).toEqual([])
  })

  it("a pending execution is done", async () => {
    const server = await FakeServer.open()
    server.put("client_tool", "agent_pause")
    const locate = vi.fn(() => "Zürich")
    open(server, { runId: RUN, clientTools: { locate } })
    await eventually(() => expect(results(server)).toHaveLength(1))
    expect(locate).toHaveBeenCalledOnce()
  })

  it("a result that cannot be posted is an error", async () => {
    const server = await FakeServer.open()
    server.put("client_tool", "agent_pause")
    server.reply = (request, response) => {
      if (request.method !== "POST") return undefined
      json(response, 403, { code: "forbidden", detail: "no" })
      return true
    }
    const { now, told } = open(server, { runId: RUN, clientTools: { locate: () => "Zürich" } })
    await eventually(() => expect(now().error).toMatchObject({ code: "forbidden" }))
    expect(now().status).toBe("paused")
    expect(told.onError).toHaveBeenCalledOnce()
  })
})
