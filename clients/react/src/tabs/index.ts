/** `@agentkit/react/tabs`: what the tabs of a browser share. `useChat` uses it by itself. */
export { browserTabs } from "./tabs"
