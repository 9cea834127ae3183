import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["tests/**/*.test.{ts,tsx}"],
    environment: "node", // a file that renders says `@vitest-environment jsdom` in its first line
    restoreMocks: true,
    testTimeout: 20_000,
    sequence: { shuffle: true },
    maxWorkers: 2,
    typecheck: { enabled: true, include: ["tests/**/*.test-d.ts"], tsconfig: "tsconfig.json" },
  },
})
