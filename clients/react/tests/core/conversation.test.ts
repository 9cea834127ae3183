/** A conversation over several runs: going on, refused messages, edits, regenerations, forks, and what is known of each run. */
import { describe, expect, it } from "vitest"
import { open, said } from "../chats"
import { golden, withHistory } from "../golden"
import { FakeServer, json, problem } from "../server"
import { eventually, settle } from "../waiting"

const PLAIN = withHistory("plain")
const user = (content: string) => ({ role: "user", content })
const HELLO = { role: "assistant", content: [{ type: "text", text: "Hello." }] }

/** A conversation of so many messages of the user, each answered by "Hello.". */
async function talked(...texts: string[]) {
  const server = await FakeServer.open({ name: PLAIN })
  const made = open(server)
  for (const text of texts) {
    await made.chat.send(text)
    await made.reaches("ready")
  }
  return { server, ...made }
}

function starts(server: FakeServer) {
  return server.asked("POST", /^\/runs$/).map(({ body }) => body)
}

describe("going on", () => {
  it("starts from the last run, and sends the new message alone", async () => {
    const { server, now, told } = await talked("One", "Two", "Three")
    const [first, second] = [...server.runs.keys()]
    expect(starts(server).slice(1)).toEqual([
      { agent: "a", from: { runId: first }, input: "Two" },
      { agent: "a", from: { runId: second }, input: "Three" },
    ])
    expect(said(now().messages)).toEqual([
      user("Refund order A-1, please."), // the played log's own
      HELLO,
      user("Two"),
      HELLO,
      user("Three"),
      HELLO,
    ])
    expect(told.onFinish).toHaveBeenCalledTimes(3)
  })

  it("shows the message at once and never less, whatever the log has so far", async () => {
    const server = await FakeServer.open({ name: PLAIN }, { name: PLAIN, shown: "agent_start" })
    const { chat, now, reaches } = open(server)
    await chat.send("One")
    await reaches("ready")
    const lengths: number[] = []
    chat.subscribe(() => lengths.push(now().messages.length))
    const sending = chat.send("Two")
    expect(said(now().messages).at(-1)).toEqual(user("Two"))
    await sending
    await eventually(() => expect(server.run.streams.size).toBe(1))
    await settle()
    server.run.show("all")
    await reaches("ready")
    expect(Math.min(...lengths)).toBe(3)
    expect(lengths).toEqual([...lengths].sort())
  })

  it("waits for a run to end that is aborted here", async () => {
    const server = await FakeServer.open({ name: PLAIN, shown: "turn_start" }, { name: PLAIN })
    const { chat, reaches, now } = open(server)
    await chat.send("One")
    await reaches("streaming")
    server.reply = (request, response) => {
      if (!request.path.endsWith("/abort")) return undefined
      json(response, 202, server.run.snapshot) // a step is still executing
      return true
    }
    void chat.abort()
    const sending = chat.send("Two")
    await eventually(() => expect(starts(server).length).toBeGreaterThan(2)) // refused: run_not_terminal
    server.run.show("all")
    expect(await sending).toBe(true)
    await reaches("ready")
    expect(now().error).toBeUndefined()
  })

  it("is refused where the run is no longer kept, and says so", async () => {
    const { server, chat, now } = await talked("One")
    server.runs.clear()
    expect(await chat.send("Two")).toBe(false)
    expect(now()).toMatchObject({ status: "error", error: { code: "run_not_found" } })
  })
})

describe.each([
  [413, "payload_too_large"],
  [400, "invalid_request"],
  [403, "forbidden"],
])("a message that is refused with %i", (status, code) => {
  async function refused() {
    const made = await talked("One")
    const { server, chat } = made
    server.reply = (request, response) => {
      if (request.body?.input !== "too much") return undefined
      problem(response, status, code)
      return true
    }
    expect(await chat.send("too much")).toBe(false)
    return made
  }

  it("is shown as what it is, and the run before is still the latest", async () => {
    const { server, now, told } = await refused()
    expect(now()).toMatchObject({
      status: "error",
      error: { code, status },
      refused: "too much",
      runId: server.run.id,
    })
    expect(said(now().messages).at(-1)).toEqual(user("too much"))
    expect(told.onError).toHaveBeenCalledOnce()
  })

  it("is not repeated by the next", async () => {
    const { server, chat, now, reaches } = await refused()
    const before = server.run.id
    expect(await chat.send("less")).toBe(true)
    await reaches("ready")
    expect(starts(server).at(-1)).toEqual({ agent: "a", from: { runId: before }, input: "less" })
    expect(said(now().messages).slice(2)).toEqual([user("less"), HELLO])
    expect(now()).toMatchObject({ refused: undefined, error: undefined })
  })

  it("can be sent again, or edited", async () => {
    const { server, chat, reaches, now } = await refused()
    expect(await chat.reload()).toBe(false)
    expect(now().refused).toBe("too much")
    expect(await chat.edit(2, "shorter")).toBe(true)
    await reaches("ready")
    expect(starts(server).at(-1)).toMatchObject({ input: "shorter" })
    expect(said(now().messages)).toHaveLength(4)
  })
})

describe("a first message that is refused", () => {
  it("is not repeated either", async () => {
    const server = await FakeServer.open({ name: PLAIN })
    server.reply = (request, response) => {
      if (starts(server).length > 1) return undefined
      problem(response, 413, "payload_too_large", {}, { path: request.path })
      return true
    }
    const { chat } = open(server)
    await chat.send("too much")
    await chat.send("less")
    expect(said(starts(server)[1].messages)).toEqual([user("less")])
  })
})

describe("edit", () => {
  it("of the last message starts where the last run was started", async () => {
    const { server, chat, now, reaches } = await talked("One", "Two")
    const [first] = [...server.runs.keys()]
    expect(await chat.edit(2, "Two, rather")).toBe(true)
    await reaches("ready")
    expect(starts(server).at(-1)).toEqual({ agent: "a", from: { runId: first }, input: "Two, rather" })
    expect(said(now().messages).slice(2)).toEqual([user("Two, rather"), HELLO])
  })

  it("of an older message starts from an older run", async () => {
    const { server, chat, now, reaches } = await talked("One", "Two", "Three")
    const [first] = [...server.runs.keys()]
    expect(await chat.edit(2, "Two, rather")).toBe(true)
    await reaches("ready")
    expect(starts(server).at(-1)).toEqual({ agent: "a", from: { runId: first }, input: "Two, rather" })
    expect(now().messages).toHaveLength(4)
  })

  it("of the first message starts anew", async () => {
    const { server, chat, reaches } = await talked("One", "Two")
    await chat.edit(0, "One, rather")
    await reaches("ready")
    expect(said(starts(server).at(-1).messages)).toEqual([user("One, rather")])
    expect(starts(server).at(-1)).not.toHaveProperty("from")
  })

  it("of a message within a run starts from the turn before it", async () => {
    const server = await FakeServer.open({ name: "follow_up" }, { name: PLAIN })
    const { chat, reaches, now } = open(server)
    await chat.send("One")
    await reaches("ready")
    expect(said(now().messages)[2]).toMatchObject({ role: "user" })
    await chat.edit(2, "Rather this")
    await reaches("ready")
    const [first] = [...server.runs.keys()]
    expect(starts(server).at(-1)).toEqual({
      agent: "a",
      from: { runId: first, turn: 1 },
      input: "Rather this",
    })
    expect(said(now().messages).slice(2)).toEqual([user("Rather this"), HELLO])
  })

  it("works after a reload: the runs before are read when they are needed", async () => {
    const { server, leave, reaches } = await talked("One", "Two", "Three")
    await reaches("ready")
    leave()
    const [first] = [...server.runs.keys()]
    const again = open(server, { runId: server.run.id })
    await eventually(() => expect(again.now().messages).toHaveLength(6))
    expect(await again.chat.edit(2, "Two, rather")).toBe(true)
    await again.reaches("ready")
    expect(starts(server).at(-1)).toEqual({
      agent: "a",
      from: { runId: first, turn: 1 },
      input: "Two, rather",
    })
  })

  it("is refused for what is no message of the user, and while a run goes on", async () => {
    const { server, chat, now } = await talked("One")
    expect(await chat.edit(1, "x")).toBe(false)
    expect(now().error).toMatchObject({ code: "no_run" })
    expect(await chat.edit(7, "x")).toBe(false)
    server.plays = [{ name: PLAIN, shown: "turn_start" }]
    await chat.send("Two")
    expect(await chat.edit(0, "x")).toBe(false)
    expect(now().error).toMatchObject({ code: "run_active" })
    expect(starts(server)).toHaveLength(2)
  })
})

describe("regenerate", () => {
  it("asks the last message again, beside the answer that was there", async () => {
    const { server, chat, reaches, now } = await talked("One", "Two")
    const [first, second] = [...server.runs.keys()]
    expect(await chat.regenerate()).toBe(true)
    await reaches("ready")
    expect(starts(server).at(-1)).toEqual({ agent: "a", from: { runId: first }, input: "Two" })
    expect(now().branches).toEqual({})
    expect(now().runId).not.toBe(second)
  })

  it("is an error where there is no message", async () => {
    const { chat, now } = open(await FakeServer.open())
    expect(await chat.regenerate()).toBe(false)
    expect(now().error).toMatchObject({ code: "no_run" })
  })
})

describe("fork", () => {
  it("starts from the end of a turn of the latest run, with a message", async () => {
    const server = await FakeServer.open({ name: "follow_up" }, { name: PLAIN })
    const { chat, reaches, now } = open(server)
    await chat.send("One")
    await reaches("ready")
    const source = server.run.id
    expect(await chat.fork(2, "Something else")).toBe(true)
    await reaches("ready")
    expect(starts(server).at(-1)).toEqual({
      agent: "a",
      from: { runId: source, turn: 2 },
      input: "Something else",
    })
    expect(now().messages).toHaveLength(6)
  })

  it("without a message lets the model go on", async () => {
    const server = await FakeServer.open({ name: "decision_approve" }, { name: PLAIN })
    const { chat, reaches, now } = open(server)
    await chat.send("One")
    await reaches("ready")
    const source = server.run.id
    expect(await chat.fork(1)).toBe(true)
    await reaches("ready")
    expect(starts(server).at(-1)).toEqual({ agent: "a", from: { runId: source, turn: 1 } })
    expect(said(now().messages).map((message) => (message as { role: string }).role)).toEqual([
      "user",
      "assistant",
      "toolResult",
      "assistant",
    ])
  })

  it("is an error before there is a run", async () => {
    const { chat, now } = open(await FakeServer.open())
    expect(await chat.fork(1, "x")).toBe(false)
    expect(now().error).toMatchObject({ code: "no_run" })
  })
})

describe("open", () => {
  it("shows another run, and the conversation goes on from that", async () => {
    const { server, chat, now, reaches } = await talked("One", "Two")
    const [first] = [...server.runs.keys()] as [string]
    expect(await chat.open(first)).toBe(true)
    expect(now()).toMatchObject({ runId: first, status: "ready" })
    expect(now().messages).toHaveLength(2)
    await chat.send("Three")
    await reaches("ready")
    expect(starts(server).at(-1)).toMatchObject({ from: { runId: first }, input: "Three" })
  })

  it("follows a run that is going on", async () => {
    const { server, chat, reaches } = await talked("One")
    server.put("decision_approve", "agent_pause", "other")
    await chat.open("other")
    await reaches("paused")
  })

  it("of a run that is gone is an error, and what was shown stays", async () => {
    const { chat, now } = await talked("One")
    const before = now()
    expect(await chat.open("gone")).toBe(false)
    expect(now()).toMatchObject({ error: { code: "run_not_found" }, runId: before.runId })
    expect(now().messages).toBe(before.messages)
    expect(await chat.send("Two")).toBe(true)
  })
})

describe("runs", () => {
  it("say which message belongs to which, with what its tools did and who decided", async () => {
    const server = await FakeServer.open({ name: "decision_edit_input" }, { name: "decision_approve" })
    const { chat, now, reaches } = open(server)
    await chat.send("One")
    await reaches("ready")
    await chat.send("Two")
    await reaches("ready")
    const [first, second] = [...server.runs.keys()]
    expect(now().runs).toMatchObject([
      {
        runId: first,
        at: 0,
        tools: { refund: { input: { cents: 400 }, edited: { original: { cents: 500 } } } },
      },
      { runId: second, at: 4, from: { runId: first }, decisions: [{ decidedBy: "ann" }] },
    ])
    expect(now().tools).toBe(now().runs[1]?.tools)
    expect(now().decisions).toBe(now().runs[1]?.decisions)
  })

  it("are the same after a reload", async () => {
    const server = await FakeServer.open({ name: "decision_edit_input" }, { name: "decision_approve" })
    const { chat, now, reaches } = open(server)
    await chat.send("One")
    await reaches("ready")
    await chat.send("Two")
    await reaches("ready")
    const again = open(server, { runId: server.run.id })
    const shape = (runs: unknown) =>
      JSON.parse(JSON.stringify(runs, (key, value) => (key === "turn" ? undefined : value)))
    await eventually(() => expect(shape(again.now().runs)).toEqual(shape(now().runs)))
  })

  it("that are gone leave the rest as it is", async () => {
    const server = await FakeServer.open({ name: "decision_edit_input" }, { name: "decision_approve" })
    const { chat, reaches } = open(server)
    await chat.send("One")
    await reaches("ready")
    await chat.send("Two")
    await reaches("ready")
    server.runs.delete([...server.runs.keys()][0] as string)
    const again = open(server, { runId: server.run.id })
    await eventually(() => expect(again.now().decisions).toHaveLength(1))
    await settle()
    expect(again.now()).toMatchObject({ status: "ready", error: undefined })
    expect(again.now().messages).toHaveLength(8)
  })
})

describe("decisions", () => {
  const resolved = (name: string) => golden(name).events.find(({ type }) => type === "tool_decision_resolved")

  it.each([
    ["decision_approve", { outcome: "decided", decision: { approved: true }, decidedBy: "ann" }],
    ["decision_edit_input", { outcome: "decided", input: { cents: 500 }, editedInput: { cents: 400 } }],
    ["decision_reject", { outcome: "rejected", reason: expect.any(String) }],
    ["decision_expire_reject", { outcome: "expired" }],
    ["in_doubt_done", { kind: "in_doubt", outcome: "decided" }],
    ["client_tool", { kind: "client_execute", outcome: "decided" }],
  ])("of %s say what was asked, the answer, by whom and when", async (name, expected) => {
    const server = await FakeServer.open({ name })
    const { chat, now } = open(server)
    await chat.send("One")
    await eventually(() => expect(["ready", "error"]).toContain(now().status))
    expect(now().decisions[0]).toMatchObject({
      toolName: expect.any(String),
      decidedAt: resolved(name)?.timestamp,
      ...expected,
    })
  })
})

describe("queued", () => {
  const waiting = [{ message: "And A-2?", when: "followUp" as const }]

  it("is shown after a reload, until the log has the message", async () => {
    const server = await FakeServer.open()
    const log = golden("steer_paused")
    const run = server.put(log, "agent_pause")
    const steered = log.events.filter(
      (event) => event.type === "message_end" && event.message.role === "user",
    )[1]
    const message = (steered as { message: { content: string } }).message.content
    run.queued = [{ message, when: "steer" }]
    const { now, reaches } = open(server, { runId: run.id })
    await reaches("paused")
    expect(now().queued).toEqual([{ message, when: "steer" }])
    run.show("all")
    await eventually(() => expect(now().queued).toEqual([]))
  })

  it("is what the server answers to a message", async () => {
    const server = await FakeServer.open({ name: "decision_approve", shown: "agent_pause" })
    const { chat, now, reaches } = open(server)
    await chat.send("One")
    await reaches("paused")
    server.run.queued = waiting
    await chat.followUp("And A-2?")
    expect(now().queued).toEqual(waiting)
  })

  it("is unsent where the run ends before a model has seen it", async () => {
    const server = await FakeServer.open({ name: "unsent_aborted" })
    const { chat, now, reaches } = open(server)
    await chat.send("One")
    await reaches("ready")
    expect(now().queued).toEqual([])
    expect(now().unsent).toMatchObject([{ when: "followUp", by: "ann" }, { message: "Make it quick." }])
  })
})
