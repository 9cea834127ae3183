/** What the core weighs in a page, its parser included. */
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import { build } from "tsdown"
import { expect, it, onTestFinished } from "vitest"

const BUDGET = 8_000

it("is under 8 kB gzipped, without React and in one file", async () => {
  const folder = await mkdtemp(join(tmpdir(), "agentkit-react-"))
  onTestFinished(() => rm(folder, { recursive: true }))
  await build({
    config: false,
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    entry: { core: "src/core/index.ts" },
    outDir: folder,
    format: "esm",
    platform: "browser",
    target: "es2022",
    minify: true,
    dts: false,
    noExternal: [/./],
    logLevel: "silent",
  })
  const code = await readFile(join(folder, "core.js"))
  const size = gzipSync(code, { level: 9 }).length
  console.info(`the core is ${code.length} bytes, ${size} gzipped`)
  expect(code.toString()).not.toMatch(/from\s*["'`]/)
  expect(size).toBeGreaterThan(2_000)
  expect(size).toBeLessThan(BUDGET)
})
