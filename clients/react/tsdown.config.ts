import { defineConfig } from "tsdown"

export default defineConfig({
  entry: { index: "src/index.ts", core: "src/core/index.ts", tabs: "src/tabs/index.ts" },
  format: "esm",
  platform: "neutral",
  target: "es2022",
  dts: true,
  clean: true,
})
