// @vitest-environment jsdom
/** A page that a server rendered is hydrated without a mismatch, and then rejoins its run. */
import { act } from "react"
import { hydrateRoot } from "react-dom/client"
import { renderToString } from "react-dom/server"
import { expect, it, vi } from "vitest"
import { useChat } from "../../src/index"
import { FakeServer, QUICK, RUN } from "../server"
import { eventually } from "../waiting"

function Page({ api }: { api: string }) {
  return <p>{useChat({ agent: "a", api, runId: RUN, retry: QUICK }).status}</p>
}

it("hydrates and rejoins", async () => {
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true)
  const server = await FakeServer.open()
  server.put("decision_pending")
  const shown = <Page api={server.url} />
  const root = document.createElement("div")
  root.innerHTML = renderToString(shown)
  expect(root.textContent).toBe("submitted")
  const errors = vi.spyOn(console, "error")
  const onRecoverableError = vi.fn()
  const page = await act(async () => hydrateRoot(root, shown, { onRecoverableError }))
  await act(() => eventually(() => expect(root.textContent).toBe("paused")))
  expect(onRecoverableError).not.toHaveBeenCalled()
  expect(errors).not.toHaveBeenCalled()
  act(() => page.unmount())
})
