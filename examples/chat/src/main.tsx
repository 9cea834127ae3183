import { StrictMode } from "react"
import { createRoot } from "react-dom/client"
import { App } from "./frame/App"
import { NavigationProvider } from "./frame/navigation"
import "./styles/index.css"

const root = document.getElementById("root")
if (root) {
  createRoot(root).render(
    <StrictMode>
      <NavigationProvider>
        <App />
      </NavigationProvider>
    </StrictMode>,
  )
}
