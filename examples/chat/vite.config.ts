/**
 * Builds the page into the Python package, which serves it (agentkit/server/page). The chat's core is compiled from
 * its source beside this example, so that one lock file names everything that the page is made of.
 */
import { fileURLToPath } from "node:url"
import react from "@vitejs/plugin-react"
import { defineConfig } from "vite"

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const server = process.env.AGENTKIT_URL ?? "http://127.0.0.1:8000"

export default defineConfig({
  base: "./", // wherever a proxy puts the server
  plugins: [react()],
  resolve: {
    alias: { "@agentkit/react": at("../../clients/react/src/index.ts") },
    dedupe: ["react", "react-dom"], // from here, whether or not clients/react is installed
  },
  build: {
    outDir: at("../../agentkit/server/page/files"),
    emptyOutDir: true,
    target: "es2022",
    license: { fileName: "licenses.md" }, // those of everything that is bundled
    rolldownOptions: { output: { comments: { legal: true } } },
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the page's policy allows no scripts or styles but those from files
  },
  server: {
    proxy: Object.fromEntries(
      ["/runs", "/agents", "/readyz", "/openapi.json", "/metrics"].map((path) => [path, server]),
    ),
  },
})
