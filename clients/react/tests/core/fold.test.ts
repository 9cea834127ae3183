/** The folding law and its neighbours, on the golden logs. */
import { describe, expect, it } from "vitest"
import { abortedState, EMPTY, fold, messagesOf, type RunState, stateOf, usageOf } from "../../src/core/fold"
import type { AssistantMessage, Run, StoredEvent } from "../../src/core/types"
import { CASES, golden } from "../golden"

/** A message as deltas tell it: signatures and rawArguments come with message_end alone. */
function streamed(message: AssistantMessage) {
  return message.content.map((block) => {
    if (block.type === "text") return { type: "text", text: block.text }
    if (block.type === "thinking") return { type: "thinking", thinking: block.thinking }
    return { type: "toolCall", id: block.id, name: block.name, arguments: block.arguments }
  })
}

function statesOf(events: StoredEvent[]): RunState[] {
  let state = EMPTY
  return events.map((event) => {
    state = fold(state, event)
    return state
  })
}

it("finds the golden logs", () => {
  expect(CASES.length).toBeGreaterThan(30)
})

describe.each(CASES)("%s", (name) => {
  const { events, messages, status } = golden(name)
  const states = statesOf(events)
  const last = states.at(-1) as RunState

  it("folds into the run's messages and status", () => {
    expect(last.messages).toEqual(messages)
    expect(last.status).toBe(status)
    expect(last.seq).toBe(events.length)
    expect(last.open).toBeUndefined()
  })

  it("streams, at every message_end, what the message then has", () => {
    events.forEach((event, at) => {
      if (event.type !== "message_end" || event.message.role !== "assistant") return
      const open = states[at - 1]?.open
      expect(open && streamed(open)).toEqual(streamed(event.message))
    })
  })

  it("has pending, at every pause, what the pause lists", () => {
    events.forEach((event, at) => {
      if (event.type !== "agent_pause") return
      const own = event.pending.filter((item) => !item.runId)
      expect(states[at - 1]?.pending).toEqual(expect.arrayContaining(own))
      expect(states[at]?.pending).toEqual(event.pending)
    })
  })

  it("uses what agent_end says", () => {
    const end = events.at(-1)
    expect(last.usage).toEqual(usageOf(messages))
    if (end?.type === "agent_end") expect(last.usage).toEqual(end.usage)
    else expect(status).toBe("paused")
  })

  it("changes nothing when events come twice", () => {
    expect(events.reduce(fold, last)).toBe(last)
  })

  it("leaves earlier states as they were", () => {
    const frozen = statesOf(structuredClone(events).map(deepFreeze))
    expect(frozen.at(-1)).toEqual(last)
  })
})

function deepFreeze<T>(value: T): T {
  if (value && typeof value === "object") Object.values(value).forEach(deepFreeze)
  return Object.freeze(value)
}

it("drops the open message at message_discard", () => {
  const { events } = golden("model_retry")
  const states = statesOf(events)
  const at = events.findIndex((event) => event.type === "message_discard")
  expect(states[at - 1]?.open?.content).toHaveLength(1)
  expect(states[at]?.open).toBeUndefined()
  const retry = events.findIndex((event) => event.type === "model_retry")
  expect(states[retry]?.retry).toMatchObject({ attempt: expect.any(Number), maxAttempts: 2 })
  expect(states.at(-1)?.retry).toBeUndefined()
})

it("puts the snapshot of a stream_reset in the place of everything but executions and answers", () => {
  const { events } = golden("decision_approve")
  const middle = events.slice(0, 15).reduce(fold, EMPTY)
  const run = {
    id: "r",
    status: "paused",
    messages: [{ role: "user", content: "x" }],
    pending: [],
    turn: 1,
    lastSeq: 40,
  }
  const state = fold(middle, { type: "stream_reset", run: run as unknown as Run })
  const { tools, decisions, historyLength } = middle
  expect(Object.keys(tools)).toEqual(["refund"])
  expect(decisions).toHaveLength(1)
  expect(state).toEqual({ ...stateOf(run as unknown as Run), tools, decisions, historyLength })
  expect(state.open).toBeUndefined()
  expect(fold(state, { ...(events[9] as StoredEvent), seq: 40 })).toBe(state)
})

it("ignores deltas of a message whose start it has not seen, and takes its end", () => {
  const { events } = golden("plain")
  const update = events.findIndex((event) => event.type === "message_update")
  const reset = stateOf({
    id: "r",
    status: "running",
    messages: [],
    pending: [],
    turn: 1,
    lastSeq: update,
  } as unknown as Run)
  const rest = events.slice(update)
  const end = rest.findIndex((event) => event.type === "message_end")
  expect(messagesOf(rest.slice(0, end).reduce(fold, reset))).toEqual([])
  expect(messagesOf(rest.slice(0, end + 1).reduce(fold, reset))).toEqual([golden("plain").messages[1]])
})

it("passes over events of a type that it does not know", () => {
  const state = fold(EMPTY, { type: "of_tomorrow", seq: 1, timestamp: 0 } as unknown as StoredEvent)
  expect(state).toEqual({ ...EMPTY, seq: 1 })
})

it("shows how executions of tools stand", () => {
  const states = statesOf(golden("failing_tool").events)
  const seen = states.map((state) => Object.values(state.tools)[0]).filter(Boolean)
  expect(seen.map((tool) => tool?.status)).toContain("running")
  expect(seen.some((tool) => tool?.partialResult)).toBe(true)
  expect(seen.at(-1)).toMatchObject({ status: "done", isError: true })
})

it("cut short, keeps the open message as aborted", () => {
  const { events } = golden("abort_running_model")
  const at = events.findIndex((event) => event.type === "message_end" && event.message.role === "assistant")
  const cut = abortedState(events.slice(0, at).reduce(fold, EMPTY))
  const message = cut.messages.at(-1) as AssistantMessage
  expect(message).toMatchObject({ content: [{ type: "text", text: "well" }], stopReason: "aborted" })
  expect(cut).toMatchObject({ status: "aborted", pending: [] })
  expect(cut.open).toBeUndefined()
})
