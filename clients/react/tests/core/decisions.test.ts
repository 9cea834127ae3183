/** Answers to pending items: what is sent, what a refusal leaves, and that the continuation is followed. */
import { describe, expect, it } from "vitest"
import { open } from "../chats"
import { golden } from "../golden"
import { FakeServer, json, problem } from "../server"
import { eventually, settle } from "../waiting"

const YES = { approved: true }

function item(name: string, number = 0) {
  const pause = golden(name).events.find((event) => event.type === "agent_pause")
  const found = pause?.type === "agent_pause" ? pause.pending[number] : undefined
  if (!found) throw new Error(`${name} does not pause`)
  return found
}

async function paused(name: string, options = {}) {
  const server = await FakeServer.open({ name, shown: "agent_pause" })
  const made = open(server, options)
  await made.chat.send("Hello")
  await made.reaches("paused")
  return { server, ...made }
}

function answers(server: FakeServer) {
  return server.asked("POST", /resume$/).map((request) => request.body)
}

it("a pause shows what is pending, and tells of it once", async () => {
  const { now, told, statuses, server } = await paused("decision_approve")
  expect(now()).toMatchObject({ isStreaming: false, pendingDecisions: [item("decision_approve")] })
  expect(now().pendingDecision).toEqual(item("decision_approve"))
  expect(told.onDecisionPending.mock.calls).toEqual([[item("decision_approve")]])
  server.run.cut()
  await settle()
  expect(told.onDecisionPending).toHaveBeenCalledOnce()
  expect(statuses.at(-1)).toBe("paused")
})

it("a decision is sent with its ids, and the continuation is followed by itself", async () => {
  const { chat, server, statuses, reaches, now } = await paused("decision_approve")
  expect(await chat.respondWithDecision(YES)).toBe(true)
  const { decisionId, toolCallId } = item("decision_approve")
  expect(answers(server)).toEqual([{ decision: YES, decisionId, toolCallId }])
  expect(now()).toMatchObject({ status: "submitted", pendingDecisions: [], pendingDecision: undefined })
  server.run.show("tool_execution_start")
  await reaches("streaming")
  expect(now().tools).toEqual({ refund: { toolName: "refund", status: "running", input: { cents: 500 } } })
  server.run.show("all")
  await reaches("ready")
  expect(now().messages).toEqual(golden("decision_approve").messages)
  expect(statuses.slice(-4)).toEqual(["paused", "submitted", "streaming", "ready"])
})

it("arguments can be corrected with the decision", async () => {
  const { chat, server } = await paused("decision_edit_input")
  await chat.respondWithDecision(YES, { input: { cents: 400 } })
  expect(answers(server)).toMatchObject([{ decision: YES, input: { cents: 400 } }])
})

it("a rejection is sent with its reason", async () => {
  const { chat, server, reaches, now } = await paused("decision_reject")
  expect(await chat.reject("too much")).toBe(true)
  expect(answers(server)).toMatchObject([{ reject: { reason: "too much" } }])
  server.run.show("all")
  await reaches("ready")
  expect(now().messages).toEqual(golden("decision_reject").messages)
})

it("an answer that misses the schema keeps the run paused, says where, and may be given again", async () => {
  const { chat, server, now, reaches, told } = await paused("decision_approve")
  const errors = [{ path: "/approved", message: "must be a boolean" }]
  server.reply = (request, response) => {
    if (request.method !== "POST") return undefined
    problem(response, 422, "decision_invalid", { errors })
    return true
  }
  const { pendingDecision } = now()
  expect(await chat.respondWithDecision({ approved: "yes" })).toBe(false)
  expect(now()).toMatchObject({ status: "paused", error: { code: "decision_invalid", status: 422, errors } })
  expect(now().pendingDecision).toBe(pendingDecision)
  expect(told.onError).toHaveBeenCalledOnce()
  server.reply = () => undefined
  expect(await chat.respondWithDecision(YES)).toBe(true)
  expect(now().error).toBeUndefined()
  server.run.show("all")
  await reaches("ready")
})

it("a second click sends nothing", async () => {
  const { chat, server } = await paused("decision_approve")
  const clicks = await Promise.all([
    chat.respondWithDecision(YES),
    chat.respondWithDecision({ approved: false }),
  ])
  expect(clicks).toEqual([true, false])
  expect(answers(server)).toHaveLength(1)
})

it("an answer where nothing is pending is an error, and nothing is sent", async () => {
  const server = await FakeServer.open()
  const { chat, now } = open(server)
  expect(await chat.respondWithDecision(YES)).toBe(false)
  expect(now()).toMatchObject({ status: "ready", error: { code: "run_not_paused" } })
  expect(server.requests).toEqual([])
})

it("an item that another tab has answered goes away", async () => {
  const { chat, server, now } = await paused("decision_approve")
  server.reply = (request, response) => {
    if (request.method === "POST") problem(response, 409, "decision_conflict")
    else if (!request.path.endsWith("events")) json(response, 200, { ...server.run.snapshot, pending: [] })
    else return undefined
    return true
  }
  expect(await chat.respondWithDecision(YES)).toBe(false)
  expect(now().error).toMatchObject({ code: "decision_conflict" })
  await eventually(() => expect(now().pendingDecisions).toEqual([]))
})

it("a decision that another tab gives is followed too", async () => {
  const { server, now, reaches } = await paused("decision_approve")
  server.run.show("tool_decision_resolved")
  await eventually(() => expect(now().pendingDecisions).toEqual([]))
  expect(now().status).toBe("submitted")
  server.run.show("all")
  await reaches("ready")
})

it("an item that is answered does not come back while the log lags behind", async () => {
  const { chat, server, now } = await paused("decision_approve")
  const seen: number[] = []
  chat.subscribe(() => seen.push(now().pendingDecisions.length))
  server.run.cut() // the resolution comes only with the next connection
  await chat.respondWithDecision(YES)
  await eventually(() => expect(server.run.streams.size).toBe(1))
  await settle()
  expect(seen.slice(seen.indexOf(0))).not.toContain(1)
})

describe("several pending items", () => {
  it("are answered one by one, by tool call id, in any order", async () => {
    const { chat, server, now, reaches, told } = await paused("decisions_two")
    const ids = [item("decisions_two", 0), item("decisions_two", 1)].map((one) => one.toolCallId)
    expect(now().pendingDecisions.map((one) => one.toolCallId)).toEqual(ids)
    expect(told.onDecisionPending).toHaveBeenCalledTimes(2)
    await chat.respondWithDecision(YES, { toolCallId: "three" })
    expect(now()).toMatchObject({ status: "paused", pendingDecision: { toolCallId: "one" } })
    await chat.reject("not this one")
    expect(answers(server)).toMatchObject([
      { toolCallId: "three", decision: YES },
      { toolCallId: "one", reject: { reason: "not this one" } },
    ])
    server.run.show("all")
    await reaches("ready")
    expect(now().messages).toEqual(golden("decisions_two").messages)
  })

  it("show while other calls of the turn still execute", async () => {
    const server = await FakeServer.open({ name: "decisions_two", shown: "tool_execution_start" })
    const { chat, now, reaches } = open(server)
    await chat.send("Hello")
    await reaches("streaming")
    await eventually(() => expect(now().pendingDecisions.length).toBeGreaterThan(0))
    expect(now().status).toBe("streaming")
  })
})

it("a sub-agent's item is answered on the run that shows it", async () => {
  const { chat, server, now, reaches } = await paused("sub_agent")
  expect(now().pendingDecision).toMatchObject({ toolName: "refund", runId: expect.any(String) })
  expect(await chat.respondWithDecision(YES)).toBe(true)
  expect(answers(server)).toMatchObject([{ decision: YES, toolCallId: "refund" }])
  expect(server.asked("POST", /resume$/)[0]?.path).toContain(server.run.id)
  server.run.show("all")
  await reaches("ready")
  expect(now().messages).toEqual(golden("sub_agent").messages)
  expect(now().usage.totalTokens).toBe(54)
})

it("the verdict on a tool call in doubt is a decision", async () => {
  const { chat, server, now } = await paused("in_doubt_done")
  expect(now().pendingDecision).toMatchObject({ kind: "in_doubt", schema: { type: "object" } })
  await chat.respondWithDecision({ verdict: "done", result: "paid" })
  expect(answers(server)).toMatchObject([{ decision: { verdict: "done", result: "paid" } }])
})

describe("with followDecisions: false", () => {
  it("a run is not read past its pause, until it is rejoined", async () => {
    const { chat, server, now, reaches } = await paused("decision_approve", { followDecisions: false })
    await eventually(() => expect(server.run.streams.size).toBe(0))
    expect(await chat.respondWithDecision(YES)).toBe(true)
    server.run.show("all")
    await settle()
    expect(now()).toMatchObject({ status: "paused", pendingDecisions: [], isStreaming: false })
    chat.rejoin()
    await reaches("ready")
    expect(now().messages).toEqual(golden("decision_approve").messages)
  })
})
