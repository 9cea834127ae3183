import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["tests/**/*.test.{ts,tsx}"],
    environment: "node", // a file that renders says `@vitest-environment jsdom` in its first line
    testTimeout: 60_000,
    fileParallelism: false, // one stack of processes, whose workers tests kill
  },
})
