/** The page: the menu and recent runs at the side, one view in the middle. */
import { Suspense, useCallback, useEffect, useRef, useState } from "react"
import { Icon } from "../icons"
import { failureText, useServer } from "../server"
import { VIEWS } from "../views"
import { type Application, ApplicationContext } from "./agents"
import { ErrorBoundary } from "./ErrorBoundary"
import { loginUrlOf, noteLogin } from "./login"
import { useNavigation } from "./navigation"
import { Sidebar } from "./Sidebar"

export function App() {
  const { place, go } = useNavigation()
  const application = useServer<Application>("/agents")
  const [drawer, setDrawer] = useState(false)
  const opener = useRef<HTMLButtonElement>(null)
  const main = useRef<HTMLElement>(null)
  const close = useCallback(() => setDrawer(false), [])
  // biome-ignore lint/correctness/useExhaustiveDependencies: each move closes the drawer
  useEffect(close, [close, place.visit])
  useEffect(() => {
    const key = (event: KeyboardEvent) => event.key === "Escape" && close()
    addEventListener("keydown", key)
    return () => removeEventListener("keydown", key)
  }, [close])
  useEffect(() => {
    if (!drawer) return
    const phone = matchMedia("(max-width: 47rem)") // as in layout.css: above that width the side is not a drawer
    phone.addEventListener("change", close)
    return () => {
      phone.removeEventListener("change", close)
      opener.current?.focus()
    }
  }, [drawer, close])

  const principal = application.data?.principal
  useEffect(() => {
    if (principal) noteLogin()
  }, [principal])
  const View = VIEWS[place.view]
  return (
    <div className="page">
      {/* biome-ignore lint/a11y/useValidAnchor: a link within the page, whose fragment names the view */}
      <a
        className="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault()
          main.current?.focus()
        }}
      >
        Skip to the content
      </a>
      <Sidebar isOpen={drawer} principal={principal} onClose={close} />
      <main id="main" tabIndex={-1} ref={main} inert={drawer}>
        <header className="bar">
          <button type="button" className="ghost only-phone" ref={opener} onClick={() => setDrawer(true)}>
            <Icon name="menu" />
            <span className="hidden">Show recent runs</span>
          </button>
          <span className="brand only-phone">agentkit</span>
          <span id="bar" className="bar-slot" />
          <button type="button" className="ghost only-phone" onClick={() => go({ view: "chat" })}>
            <Icon name="plus" />
            <span className="hidden">New chat</span>
          </button>
        </header>
        {application.data ? (
          <ApplicationContext value={application.data}>
            <ErrorBoundary key={place.visit}>
              <Suspense fallback={<p className="notice">One moment …</p>}>
                <View key={place.visit} />
              </Suspense>
            </ErrorBoundary>
          </ApplicationContext>
        ) : (
          <div className="notice" role="status">
            <p>{application.failure === undefined ? "One moment …" : failureText(application.failure)}</p>
            {application.loginUrl && (
              <a className="button" href={loginUrlOf(application.loginUrl)}>
                Log in
              </a>
            )}
          </div>
        )}
      </main>
    </div>
  )
}
