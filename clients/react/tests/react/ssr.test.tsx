/** Rendering on a server, where there is no `window`, and hydrating what it rendered. */
import { renderToString } from "react-dom/server"
import { expect, it, vi } from "vitest"
import { useChat } from "../../src/index"

function Page({ runId }: { runId?: string }) {
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
