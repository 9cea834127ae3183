// @vitest-environment jsdom
/** A page that a server rendered is hydrated without a mismatch, and then rejoins its run. */
import { cleanup, configure, render, waitFor } from "@testing-library/react"
import { StrictMode } from "react"
import { renderToString } from "react-dom/server"
import { afterEach, expect, it, vi } from "vitest"
import { type UseChatOptions, useChat } from "../../src/index"
import { FakeServer, QUICK, RUN } from "../server"

configure({ asyncUtilTimeout: 10_000 })
afterEach(cleanup)

function Page({ api, runId }: { api: string; runId: UseChatOptions["runId"] }) {
  return <p>{useChat({ agent: "a", api, runId, retry: QUICK }).status}</p>
}

async function hydrated(runId: UseChatOptions["runId"], first: string) {
  const server = await FakeServer.open()
  server.put("decision_pending")
  const page = (
    <StrictMode>
      <Page api={server.url} runId={runId} />
    </StrictMode>
  )
  const container = document.body.appendChild(document.createElement("div"))
  container.innerHTML = renderToString(page)
  expect(container.textContent).toBe(first)
  const paragraph = container.firstChild
  const errors = vi.spyOn(console, "error")
  const onRecoverableError = vi.fn()
  render(page, { container, hydrate: true, onRecoverableError })
  await waitFor(() => expect(container.textContent).toBe("paused"))
  expect(container.firstChild).toBe(paragraph)
  expect(onRecoverableError).not.toHaveBeenCalled()
  expect(errors).not.toHaveBeenCalled()
}

it("hydrates and rejoins", () => hydrated(RUN, "submitted"))

it("hydrates and rejoins the run that the URL names, which the server did not know", async () => {
  window.history.replaceState(null, "", `?run=${RUN}`)
  const runId = vi.fn(() => new URL(location.href).searchParams.get("run"))
  await hydrated(runId, "ready")
  expect(runId).toHaveBeenCalled()
})
