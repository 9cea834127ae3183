/**
 * Packs @agentkit/react as npm would publish it, and builds the applications beside this file with the packed file: Next.js
 * (a page that is rendered ahead), Vite with React 19, Vite and server rendering with React 18, and CommonJS. Before that,
 * publint and attw check what the package says of itself. It installs from the registry, so it needs a network:
 *
 *     node tests/apps/check.mjs [application …]
 */
import { execFileSync } from "node:child_process"
import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const HERE = import.meta.dirname
const PACKAGE = join(HERE, "../..")
const APPS = readdirSync(HERE, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)

function run(cwd, command, ...args) {
  console.info(`$ ${command} ${args.join(" ")}`)
  execFileSync(command, args, {
    cwd,
    stdio: "inherit",
    env: { ...process.env, NEXT_TELEMETRY_DISABLED: "1" },
  })
}

const folder = mkdtempSync(join(tmpdir(), "agentkit-apps-"))
try {
  run(PACKAGE, "npm", "pack", "--silent", "--pack-destination", folder) // builds it first
  const tarball = join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? "")
  run(PACKAGE, "npx", "--no-install", "publint", "run", tarball, "--strict")
  run(PACKAGE, "npx", "--no-install", "attw", tarball, "--profile", "esm-only")
  for (const app of process.argv.slice(2).length ? process.argv.slice(2) : APPS) {
    console.info(`\n== ${app}`)
    const copy = join(folder, app)
    cpSync(join(HERE, app), copy, { recursive: true })
    run(copy, "npm", "install", "--no-audit", "--no-fund", "--loglevel", "error", tarball)
    run(copy, "npm", "run", "--silent", "build")
  }
  console.info("\nAll of them build.")
} finally {
  rmSync(folder, { recursive: true })
}
