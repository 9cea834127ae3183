/** The views beside the chat. The code of each is loaded when it is first shown. */
import { type ComponentType, type LazyExoticComponent, lazy } from "react"
import type { ViewName } from "../frame/place"

export const VIEWS: Record<ViewName, LazyExoticComponent<ComponentType>> = {
  chat: lazy(() => import("../chat/ChatView")),
  waiting: lazy(() => import("./Waiting")),
  runs: lazy(() => import("./Runs")),
  run: lazy(() => import("./RunView")),
  system: lazy(() => import("./System")),
}

/** What the menu names, in its order. */
export const MENU: readonly { view: ViewName; name: string }[] = [
  { view: "waiting", name: "Waiting" },
  { view: "runs", name: "Runs" },
  { view: "system", name: "System" },
]
