// @vitest-environment jsdom
// The AI SDK's own useChat, over real workers that are killed, with a pause and a reload.

import { safeValidateTypes } from "@ai-sdk/provider-utils"
import { cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react"
import { uiMessageChunkSchema } from "ai"
import { afterEach, describe, expect, test } from "vitest"
import { Chat } from "../src/Chat"
import { golden, killWorkers, SCRIPTS, URL } from "./server"

afterEach(cleanup)

const WAIT = { timeout: 25_000, interval: 20 }

function open(id: string): void {
  render(<Chat url={URL} id={id} />)
}

function say(text: string): void {
  fireEvent.change(screen.getByLabelText("Message"), { target: { value: text } })
  fireEvent.click(screen.getByText("Send"))
}

/** The texts of the assistant's messages. */
function said(): string[] {
  return screen.getAllByLabelText("assistant").map((each) => each.textContent ?? "")
}

async function ready(): Promise<void> {
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("ready"), WAIT)
}

describe.skipIf(!URL)("the example", () => {
  test("a pause, a reload in it, a worker that is killed, and the chat goes on", async () => {
    const id = crypto.randomUUID()
    open(id)
    say(SCRIPTS.refund ?? "")
    await screen.findByText("Approve", {}, WAIT)
    await ready()
    cleanup()
    open(id) // a page that keeps nothing: the run that waits comes back, and what it asks
    const approve = await screen.findByText("Approve", {}, WAIT)
    await ready()
    await killWorkers()
    fireEvent.click(approve)
    await screen.findByText("It is done.", {}, WAIT)
    await ready()
    expect(said()).toHaveLength(1)
    expect(said()[0]).toContain("refunded 500")
    say(SCRIPTS.hello ?? "")
    await screen.findByText("Hello.", {}, WAIT)
    expect(said()).toHaveLength(2)
  })

  test("what a killed worker had said is taken back", async () => {
    open(crypto.randomUUID())
    say(SCRIPTS.slow ?? "")
    await waitFor(() => expect(said()[0]?.length).toBeGreaterThan(20), WAIT)
    await killWorkers()
    await screen.findByText(SCRIPTS.slowAnswer ?? "", {}, WAIT)
    await ready()
    expect(said()).toEqual([SCRIPTS.slowAnswer])
  })

  test("a page that is reloaded in the middle has the whole answer once", async () => {
    const id = crypto.randomUUID()
    open(id)
    say(SCRIPTS.slow ?? "")
    await waitFor(() => expect(said()[0]?.length).toBeGreaterThan(20), WAIT)
    cleanup()
    open(id)
    await screen.findByText(SCRIPTS.slowAnswer ?? "", {}, WAIT)
    await ready()
    expect(said()).toEqual([SCRIPTS.slowAnswer])
  })

  test("a tool of the page is executed by the page, and a refused one by nobody", async () => {
    open(crypto.randomUUID())
    say(SCRIPTS.both ?? "")
    fireEvent.click(await screen.findByText("Refuse", {}, WAIT))
    await screen.findByText("All done.", {}, WAIT)
    await ready()
    expect(said()[0]).toContain("output-available Bern")
    expect(said()[0]).toContain("output-denied")
  })

  test("a decision that is more than yes or no goes to the ordinary route", async () => {
    open(crypto.randomUUID())
    say(SCRIPTS.assign ?? "")
    const button = await screen.findByText("To Ada", {}, WAIT)
    await ready()
    fireEvent.click(button)
    await screen.findByText("She has it.", {}, WAIT)
    await ready()
    expect(said()).toHaveLength(1)
    expect(said()[0]).toContain("assigned to ada")
  })

  test("stop ends the run", async () => {
    open(crypto.randomUUID())
    say(SCRIPTS.slow ?? "")
    await waitFor(() => expect(said()[0]?.length).toBeGreaterThan(20), WAIT)
    fireEvent.click(screen.getByText("Stop"))
    await ready()
    expect(said()[0]).not.toBe(SCRIPTS.slowAnswer)
    say(SCRIPTS.hello ?? "")
    await screen.findByText("Hello.", {}, WAIT)
  })
})

test.each(golden("ai_sdk"))(
  "the golden stream %s is of the published chunks",
  async (_, { live, replayed }) => {
    for (const chunk of [...live, replayed].flat()) {
      const result = await safeValidateTypes({ value: chunk, schema: uiMessageChunkSchema })
      expect(result.success, JSON.stringify(chunk)).toBe(true)
    }
  },
)
