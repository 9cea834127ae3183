/** CommonJS loads the package, which has ES modules only, with `import()`. */
const assert = require("node:assert/strict")

async function main() {
  const { Chat } = await import("@agentkit/react/core")
  const chat = new Chat({ agent: "support" })
  assert.equal(chat.getSnapshot().status, "ready")
  assert.equal(typeof (await import("@agentkit/react")).useChat, "function")
  assert.equal(typeof (await import("@agentkit/react/tabs")).browserTabs, "function")
}

main()
