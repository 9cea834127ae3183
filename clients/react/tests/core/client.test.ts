/** The calls: what is sent where, what is sent again, and how refusals look. */
import { expect, it, vi } from "vitest"
import { Client } from "../../src/core/client"
import { FakeServer, json, problem, QUICK, RUN } from "../server"
import { settle } from "../waiting"

const HELLO = { agent: "a", messages: [{ role: "user" as const, content: "Hello" }] }
const ITEM = { decisionId: "d", toolCallId: "t" }

function away(times: number, status = 503): FakeServer["reply"] {
  let left = times
  return (_, response) => {
    if (left-- <= 0) return undefined
    if (status) problem(response, status, "store_unavailable")
    else response.socket?.destroy()
    return true
  }
}

it("starts one run however often the start is sent", async () => {
  const server = await FakeServer.open({ name: "plain" })
  server.reply = away(3, 0)
  const run = await new Client({ api: server.url, retry: QUICK }).start(HELLO, "the key")
  expect(run.status).toBe("completed")
  expect(server.requests.map((request) => request.headers["idempotency-key"])).toEqual(
    Array(4).fill("the key"),
  )
})

it("gives up on a server that stays away", async () => {
  const server = await FakeServer.open({ name: "plain" })
  server.reply = away(100)
  const client = new Client({ api: server.url, retry: { ...QUICK, attempts: 3 } })
  await expect(client.get(RUN)).rejects.toMatchObject({ status: 503, code: "store_unavailable" })
  expect(server.requests).toHaveLength(3)
})

it("takes whatever a proxy says in place of a server for a server that is away", async () => {
  const server = await FakeServer.open()
  server.put("plain")
  server.reply = away(1, 522)
  const run = await new Client({ api: server.url, retry: QUICK }).get(RUN)
  expect(run.status).toBe("completed")
  expect(server.requests).toHaveLength(2)
})

it("waits for a Retry-After that is longer than a timer can be", async () => {
  const server = await FakeServer.open()
  server.reply = (_, response) => {
    problem(response, 503, "store_unavailable", {}, { "Retry-After": "9999999999" })
    return true
  }
  const life = new AbortController()
  const asked = new Client({ api: server.url, retry: QUICK }).get(RUN, life.signal)
  const refused = expect(asked).rejects.toMatchObject({ code: "unreachable" })
  await settle()
  expect(server.requests).toHaveLength(1)
  life.abort()
  await refused
})

it("says at once that a body is no JSON", async () => {
  const send = vi.fn<typeof fetch>()
  const client = new Client({ api: "http://127.0.0.1:9", fetch: send })
  const answer = { decision: 1n, ...ITEM }
  await expect(client.answer(RUN, answer)).rejects.toMatchObject({ code: "client_error" })
  expect(send).not.toHaveBeenCalled()
})

it("says that nobody answers where nobody does", async () => {
  const server = await FakeServer.open()
  await server.close()
  const client = new Client({ api: "http://127.0.0.1:9", retry: { ...QUICK, attempts: 2 } })
  await expect(client.get(RUN)).rejects.toMatchObject({ code: "unreachable", status: 0 })
})

it.each([
  ["a refusal", undefined],
  ["a lost reply", 0],
])("sends an answer and a message again after %s, each under a key of its own", async (_, status) => {
  const server = await FakeServer.open()
  server.put("plain")
  const client = new Client({ api: server.url, retry: QUICK })
  const calls = [
    () => client.message(RUN, "and?", "steer"),
    () => client.message(RUN, "and?", "steer"),
    () => client.answer(RUN, { decision: 1, ...ITEM }),
  ]
  for (const call of calls) {
    server.reply = away(1, status)
    await call()
  }
  const keys = server.requests.map((request) => request.headers["idempotency-key"])
  expect(keys).toHaveLength(6)
  expect(new Set(keys).size).toBe(3)
  for (const first of [0, 2, 4]) expect(keys[first]).toBe(keys[first + 1])
  for (const key of keys) expect(key).toMatch(/^\d+(-\d+){3}$/)
})

it("tells a problem by its code, with its errors", async () => {
  const server = await FakeServer.open()
  const errors = [{ path: "/approved", message: "must be a boolean" }]
  server.reply = (_, response) => {
    problem(response, 422, "decision_invalid", { errors })
    return true
  }
  const refused = new Client({ api: server.url }).answer(RUN, { decision: {}, ...ITEM })
  await expect(refused).rejects.toMatchObject({
    status: 422,
    code: "decision_invalid",
    message: "it is decision_invalid",
    errors,
  })
})

it("takes a page for no answer of agentkit", async () => {
  const server = await FakeServer.open()
  server.reply = (request, response) => {
    response
      .writeHead(request.path.includes("abort") ? 500 : 200, { "Content-Type": "text/html" })
      .end("<html>")
    return true
  }
  const client = new Client({ api: server.url, retry: QUICK })
  await expect(client.get(RUN)).rejects.toMatchObject({ code: "not_agentkit", status: 200 })
  await expect(client.abort(RUN)).rejects.toMatchObject({ code: "not_agentkit", status: 500 })
  expect(server.requests).toHaveLength(2)
})

it("asks again where an answer breaks off", async () => {
  const server = await FakeServer.open()
  server.put("plain", "all")
  let cut = 0
  server.reply = (_, response) => {
    if (cut++ > 0) return undefined
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": 500 })
    response.write('{"id":"', () => response.socket?.destroy())
    return true
  }
  const client = new Client({ api: server.url, retry: QUICK })
  expect(await client.get(RUN)).toMatchObject({ id: RUN })
  expect(server.requests).toHaveLength(2)
})

it("asks for headers anew for every request", async () => {
  const server = await FakeServer.open()
  server.put("plain")
  let token = 0
  const headers = async () => ({ Authorization: `Bearer ${++token}` })
  const client = new Client({ api: `${server.url}/`, headers })
  await client.get(RUN)
  await client.get(RUN)
  expect(server.requests.map((request) => request.headers.authorization)).toEqual(["Bearer 1", "Bearer 2"])
  expect(server.requests[0]?.path).toBe(`/runs/${RUN}`)
})

it("sends a header once, however its owner writes its name", async () => {
  const server = await FakeServer.open()
  server.put("plain")
  const headers = { "CONTENT-type": "application/json", "x-tenant": "t" }
  await new Client({ api: server.url, headers }).abort(RUN)
  expect(server.requests[0]?.headers).toMatchObject({ "content-type": "application/json", "x-tenant": "t" })
})

it("asks for headers again where they could not be had, as for a server", async () => {
  const server = await FakeServer.open()
  server.put("plain")
  const headers = vi.fn<() => Promise<Record<string, string>>>()
  const cause = new Error("no token")
  headers.mockRejectedValueOnce(cause).mockResolvedValueOnce({}).mockRejectedValue(cause)
  const client = new Client({ api: server.url, headers, retry: { ...QUICK, attempts: 2 } })
  await client.get(RUN)
  expect(server.requests).toHaveLength(1)
  await expect(client.get(RUN)).rejects.toMatchObject({ code: "unreachable", cause })
  expect(server.requests).toHaveLength(1)
})

it("hands credentials and a relative URL to fetch as they are", async () => {
  const calls: [unknown, RequestInit | undefined][] = []
  const own: typeof fetch = async (url, init) => {
    calls.push([url, init])
    return Response.json({})
  }
  await new Client({ fetch: own, credentials: "include" }).get("a/b")
  await new Client({ fetch: own, api: "/agents/" }).abort(RUN)
  expect(calls.map(([url]) => url)).toEqual(["/runs/a%2Fb", `/agents/runs/${RUN}/abort`])
  expect(calls.map(([, init]) => init?.credentials)).toEqual(["include", undefined])
})

it.each([
  ["a URL", `/answers/${RUN}?by=me`],
  ["a function", (id: string) => `/answers/${id}?by=me`],
])("sends answers elsewhere where resumeApi is %s", async (_, make) => {
  const server = await FakeServer.open()
  server.reply = (_request, response) => {
    json(response, 202, {})
    return true
  }
  const resumeApi = typeof make === "string" ? server.url + make : (id: string) => server.url + make(id)
  await new Client({ api: "http://127.0.0.1:9", resumeApi }).answer(RUN, {
    reject: { reason: "no" },
    ...ITEM,
  })
  expect(server.requests[0]).toMatchObject({
    path: `/answers/${RUN}?by=me`,
    body: { reject: { reason: "no" }, decisionId: "d", toolCallId: "t" },
  })
})
