// @vitest-environment jsdom
/** The hook: what a component sees, once each, also in StrictMode, and nothing after it is gone. */
import { act, cleanup, configure, fireEvent, render, screen, waitFor } from "@testing-library/react"
import { StrictMode, useState } from "react"
import { afterEach, describe, expect, it, vi } from "vitest"
import { Chat, type UseChatOptions, type UseChatResult, useChat, useChatStore } from "../../src/index"
import { callbacks } from "../chats"
import { golden } from "../golden"
import { FakeServer, json, problem, QUICK, RUN } from "../server"
import { settle } from "../waiting"

configure({ asyncUtilTimeout: 10_000 })
afterEach(cleanup)

function textOf(content: UseChatResult["messages"][number]["content"]): string {
  if (typeof content === "string") return content
  return content.map((block) => ("text" in block ? block.text : `[${block.type}]`)).join("")
}

let chat: UseChatResult
let renders = 0

function Page(options: Partial<UseChatOptions>) {
  chat = useChat({ agent: "a", retry: QUICK, ...options })
  renders++
  return (
    <main>
      <p data-testid="status">{chat.status}</p>
      <ul>
        {chat.messages.map((message, at) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: messages only ever come at the end
          <li key={at}>{`${message.role}: ${textOf(message.content)}`}</li>
        ))}
      </ul>
      {chat.pendingDecision && (
        <button type="button" onClick={() => chat.respondWithDecision({ approved: true })}>
          Approve {chat.pendingDecision.toolName}
        </button>
      )}
    </main>
  )
}

function Changing({ api, onDone }: { api: string; onDone: (name: string) => void }) {
  const [name, setName] = useState("first")
  return (
    <>
      <button type="button" onClick={() => setName("second")}>
        change
      </button>
      <Page api={api} headers={{ "X-Name": name }} onFinish={() => onDone(name)} />
    </>
  )
}

function Count({ shared }: { shared: Chat }) {
  return <output>{useChatStore(shared).messages.length}</output>
}

const lines = () => screen.queryAllByRole("listitem").map((item) => item.textContent)
const status = () => screen.getByTestId("status").textContent

describe.each([
  ["plain", false],
  ["strict", true],
])("in %s mode", (_, strict) => {
  const show = (options: Partial<UseChatOptions>) => {
    const page = <Page {...options} />
    return render(strict ? <StrictMode>{page}</StrictMode> : page)
  }

  it("a message is sent, streamed, decided on and finished, and every callback is called once", async () => {
    const server = await FakeServer.open({ name: "decision_approve", shown: "agent_pause" })
    const told = callbacks()
    show({ api: server.url, ...told })
    expect(status()).toBe("ready")
    await act(() => chat.send("Refund order A-1, please."))
    fireEvent.click(await screen.findByRole("button", { name: "Approve refund" }))
    await waitFor(() => expect(status()).toBe("submitted"))
    expect(screen.queryByRole("button")).toBeNull()
    act(() => server.run.show("all"))
    await waitFor(() => expect(status()).toBe("ready"))
    expect(lines()).toEqual([
      "user: Refund order A-1, please.",
      "assistant: [toolCall]",
      "toolResult: refunded 500",
      "assistant: Done.",
    ])
    const { events } = golden("decision_approve")
    expect(told.onEvent.mock.calls.map(([event]) => event)).toEqual(events)
    expect(told.onMessage).toHaveBeenCalledTimes(4)
    expect(told.onDecisionPending).toHaveBeenCalledOnce()
    expect(told.onFinish).toHaveBeenCalledOnce()
    expect(told.onError).not.toHaveBeenCalled()
    expect(server.asked("POST", /^\/runs$/)).toHaveLength(1)
    expect(server.asked("POST", /resume$/)).toHaveLength(1)
  })

  it("a run is rejoined on mount, and its pending decision is told once", async () => {
    const server = await FakeServer.open()
    const run = server.put("decision_approve", "agent_pause")
    const told = callbacks()
    show({ api: server.url, runId: RUN, ...told })
    expect(status()).toBe("submitted")
    fireEvent.click(await screen.findByRole("button", { name: "Approve refund" }))
    await waitFor(() => expect(server.asked("POST", /resume$/)).toHaveLength(1))
    act(() => run.show("all"))
    await waitFor(() => expect(lines()).toHaveLength(4))
    await waitFor(() => expect(status()).toBe("ready"))
    expect(told.onDecisionPending).toHaveBeenCalledOnce()
    expect(told.onFinish).toHaveBeenCalledOnce()
  })

  it("a client-side tool is executed once", async () => {
    const server = await FakeServer.open()
    server.put("client_tool", "agent_pause")
    const locate = vi.fn(() => "Zürich")
    show({ api: server.url, runId: RUN, clientTools: { locate } })
    await waitFor(() => expect(server.asked("POST", /resume$/)).toHaveLength(1))
    await settle()
    expect(locate).toHaveBeenCalledOnce()
  })

  it("an error is told once", async () => {
    const server = await FakeServer.open({ name: "provider_error" })
    const told = callbacks()
    show({ api: server.url, ...told })
    await act(() => chat.send("Hello"))
    await waitFor(() => expect(status()).toBe("error"))
    expect(told.onError).toHaveBeenCalledOnce()
  })

  it("nothing is rendered, told or read after the component is gone", async () => {
    const errors = vi.spyOn(console, "error").mockImplementation(() => {})
    const server = await FakeServer.open({ name: "plain", shown: "turn_start" })
    const told = callbacks()
    const page = show({ api: server.url, ...told })
    await act(() => chat.send("Hello"))
    await waitFor(() => expect(status()).toBe("streaming"))
    page.unmount()
    const [seen, events, requests] = [renders, told.onEvent.mock.calls.length, server.requests.length]
    await waitFor(() => expect(server.run.streams.size).toBe(0))
    server.run.show("all")
    await settle()
    expect([renders, told.onEvent.mock.calls.length, server.requests.length]).toEqual([
      seen,
      events,
      requests,
    ])
    expect(told.onFinish).not.toHaveBeenCalled()
    expect(errors).not.toHaveBeenCalled()
    expect(server.asked("POST", /abort$/)).toEqual([]) // leaving a page never stops a run
  })
})

it("callbacks and options may change at any render, and nothing is asked anew for it", async () => {
  const server = await FakeServer.open({ name: "plain", shown: 3 })
  const finishes: string[] = []
  render(<Changing api={server.url} onDone={(name) => finishes.push(name)} />)
  await act(() => chat.send("Hello"))
  await waitFor(() => expect(server.run.streams.size).toBe(1))
  const { send } = chat
  fireEvent.click(screen.getByText("change"))
  expect(chat.send).toBe(send)
  server.run.show("all")
  await waitFor(() => expect(finishes).toEqual(["second"]))
  await act(() => chat.send("And?"))
  const names = server.asked("POST", /^\/runs$/).map((request) => request.headers["x-name"])
  expect(names).toEqual(["first", "second"])
  expect(server.asked("GET", /events$/).length).toBeLessThanOrEqual(2)
})

it("a chunk of many events is one render", async () => {
  const server = await FakeServer.open({ name: "decision_approve", shown: 3 })
  render(<Page api={server.url} />)
  await act(() => chat.send("Hello"))
  await waitFor(() => expect(server.run.streams.size).toBe(1))
  await act(settle)
  const before = renders
  server.run.show("agent_pause")
  await waitFor(() => expect(status()).toBe("paused"))
  expect(renders - before).toBeLessThanOrEqual(2)
})

describe("the definition of an item's tool", () => {
  async function asked(name: string) {
    const server = await FakeServer.open()
    const run = server.put(name, "agent_pause")
    const cashier = { name: "cashier", tools: [{ name: "refund", label: "The cashier's" }] }
    const own = { name: "a", tools: [{ name: "refund", label: "The agent's own" }] }
    server.reply = (request, response) => {
      if (request.path === "/agents") json(response, 200, { agents: [own, cashier] })
      else if (request.path.endsWith("2")) json(response, 200, { ...run.snapshot, agent: "cashier" })
      else return undefined
      return true
    }
    render(<Page api={server.url} runId={RUN} />)
    await waitFor(() => expect(status()).toBe("paused"))
    return { server, item: chat.pendingDecision as NonNullable<typeof chat.pendingDecision> }
  }

  it("is that of the run's agent", async () => {
    const { item } = await asked("decision_approve")
    expect(await chat.definitionOf(item)).toMatchObject({ label: "The agent's own" })
  })

  it("is that of the sub-agent whose run has the item, where the names are the same", async () => {
    const { item } = await asked("sub_agent")
    expect(await chat.definitionOf(item)).toMatchObject({ label: "The cashier's" })
  })

  it("is undefined where the server does not say it", async () => {
    const { server, item } = await asked("decision_approve")
    server.reply = (_, response) => problem(response, 403, "forbidden") ?? true
    expect(await chat.definitionOf(item)).toBeUndefined()
  })
})

it("two components show one chat over one stream", async () => {
  const server = await FakeServer.open({ name: "plain" })
  const shared = new Chat({ api: server.url, agent: "a", retry: QUICK })
  render(
    <>
      <Count shared={shared} />
      <Count shared={shared} />
    </>,
  )
  await act(() => shared.send("Hello"))
  await waitFor(() => expect(screen.getAllByRole("status").map((one) => one.textContent)).toEqual(["2", "2"]))
  expect(server.asked("GET", /events$/)).toHaveLength(1)
})
