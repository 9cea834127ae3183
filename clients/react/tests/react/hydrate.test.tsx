// @vitest-environment jsdom
/** A page that a server rendered is hydrated without a mismatch, and then rejoins its run. */
import { cleanup, configure, render, waitFor } from "@testing-library/react"
import { renderToString } from "react-dom/server"
import { afterEach, expect, it, vi } from "vitest"
import { useChat } from "../../src/index"
import { FakeServer, QUICK, RUN } from "../server"

configure({ asyncUtilTimeout: 10_000 })
afterEach(cleanup)

function Page({ api }: { api: string }) {
  return <p>{useChat({ agent: "a", api, runId: RUN, retry: QUICK }).status}</p>
}

it("hydrates and rejoins", async () => {
  const server = await FakeServer.open()
  server.put("decision_pending")
  const page = <Page api={server.url} />
  const container = document.body.appendChild(document.createElement("div"))
  container.innerHTML = renderToString(page)
  expect(container.textContent).toBe("submitted")
  const paragraph = container.firstChild
  const errors = vi.spyOn(console, "error")
  const onRecoverableError = vi.fn()
  render(page, { container, hydrate: true, onRecoverableError })
  await waitFor(() => expect(container.textContent).toBe("paused"))
  expect(container.firstChild).toBe(paragraph)
  expect(onRecoverableError).not.toHaveBeenCalled()
  expect(errors).not.toHaveBeenCalled()
})
