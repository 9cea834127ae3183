/** What npm shows and installs of the package. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"

const read = (path: string) => readFileSync(join(import.meta.dirname, "..", path), "utf8")
const { exports, files, peerDependencies, dependencies } = JSON.parse(read("package.json"))

it("links to nothing that only the repository has", () => {
  const targets = Array.from(read("README.md").matchAll(/\]\(([^)]*)\)/g), ([, target]) => target)
  expect(targets.filter((target) => !/^(https?:|#)/.test(target ?? ""))).toEqual([])
})

it("has its licence, which is that of the repository", () => {
  expect(read("LICENSE")).toBe(read("../../LICENSE"))
  expect(files).toEqual(["dist", "README.md", "LICENSE"])
})

it("is for React 18 and 19, and needs nothing else", () => {
  expect(peerDependencies).toEqual({ react: ">=18 <20" })
  expect(dependencies).toBeUndefined()
})

it("names types and a module for each entry, which the README mentions", () => {
  const readme = read("README.md")
  for (const [entry, target] of Object.entries(exports)) {
    if (entry === "./package.json") continue
    const name = entry === "." ? "index" : entry.slice(2)
    expect(target).toEqual({ types: `./dist/${name}.d.ts`, default: `./dist/${name}.js` })
    expect(readme).toContain(`@agentkit/react${entry.slice(1)}`)
  }
})
