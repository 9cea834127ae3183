/** Rendering on a server, where there is no `window`, and hydrating what it rendered. */
import { renderToString } from "react-dom/server"
import { expect, it, vi } from "vitest"
import { type UseChatOptions, useChat } from "../../src/index"

function Page({ runId }: Pick<UseChatOptions, "runId">) {
  const { messages, status } = useChat({
    agent: "a",
    runId,
    initialMessages: [{ role: "user", content: "Hello" }],
    api: "/agents",
  })
  return (
    <p>
      {status}: {messages.map((message) => message.content as string).join()}
    </p>
  )
}

it("renders without a window, and asks nobody", () => {
  expect(typeof window).toBe("undefined")
  expect(typeof document).toBe("undefined")
  const send = vi.spyOn(globalThis, "fetch")
  expect(renderToString(<Page />)).toContain("ready<!-- -->: <!-- -->Hello")
  expect(renderToString(<Page runId="r" />)).toContain("submitted")
  expect(send).not.toHaveBeenCalled()
})

it("does not read what only a browser has", () => {
  const runId = () => new URL(location.href).searchParams.get("run")
  expect(renderToString(<Page runId={runId} />)).toContain("ready")
})

it("uses neither the time nor random values, which Next.js refuses where a page is rendered ahead", () => {
  const refuse = (name: string) => () => {
    throw new Error(`${name} while rendering`)
  }
  vi.spyOn(Math, "random").mockImplementation(refuse("Math.random"))
  vi.spyOn(Date, "now").mockImplementation(refuse("Date.now"))
  vi.spyOn(crypto, "randomUUID").mockImplementation(refuse("randomUUID"))
  vi.spyOn(crypto, "getRandomValues").mockImplementation(refuse("getRandomValues"))
  const pages = [<Page key="1" />, <Page key="2" runId="r" />, <Page key="3" runId={() => "r"} />]
  const text = pages.map((page) => renderToString(page)).join()
  vi.restoreAllMocks()
  expect(text).toContain("Hello")
})
