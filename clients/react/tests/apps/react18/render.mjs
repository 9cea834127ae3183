/** A server renders a page of the oldest React that the package is for. */
import assert from "node:assert/strict"
import { useChat } from "@agentkit/react"
import { createElement } from "react"
import { renderToString } from "react-dom/server"

function Page() {
  return createElement("p", null, useChat({ agent: "support", runId: () => location.href }).status)
}

assert.equal(renderToString(createElement(Page)), "<p>ready</p>")
