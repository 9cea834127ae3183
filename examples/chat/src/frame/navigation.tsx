/** Moves between views without loading the page again. */
import {
  type AnchorHTMLAttributes,
  createContext,
  type MouseEvent,
  type ReactNode,
  use,
  useCallback,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "react"
import { type Target, targetOf, urlOf } from "./place"

export interface Place extends Target {
  query: Record<string, string>
  /** Changes with each move to another view or run; 0 until the first. */
  visit: number
}

export interface Navigation {
  place: Place
  /** Opens a view. */
  go: (target: Target) => void
  /** Notes in the URL what the open view shows now, such as the next run of its chat, or its filters. */
  stay: (change: Pick<Target, "runId" | "query">) => void
}

const Context = createContext<Navigation | undefined>(undefined)

export function useNavigation(): Navigation {
  const navigation = use(Context)
  if (!navigation) throw new Error("useNavigation needs a NavigationProvider above it")
  return navigation
}

export function NavigationProvider({ children }: { children: ReactNode }) {
  const [place, setPlace] = useState<Place>(() => ({ query: {}, ...targetOf(location), visit: 0 }))
  const first = useRef(urlOf(place))
  const visit = useCallback(
    () => setPlace((before) => ({ query: {}, ...targetOf(location), visit: before.visit + 1 })),
    [],
  )
  useEffect(() => {
    if (urlOf(targetOf(location)) !== first.current) visit() // it has changed while the page was loading
    addEventListener("popstate", visit) // also when a fragment changes
    return () => removeEventListener("popstate", visit)
  }, [visit])
  const go = useCallback(
    (target: Target) => {
      history.pushState(null, "", urlOf(target))
      visit()
    },
    [visit],
  )
  const stay = useCallback((change: Pick<Target, "runId" | "query">) => {
    const now = targetOf(location)
    const url = urlOf({ ...now, ...change })
    if (url !== urlOf(now)) history.replaceState(null, "", url)
    setPlace((before) => ({ ...before, ...change }))
  }, [])
  const navigation = useMemo(() => ({ place, go, stay }), [place, go, stay])
  return <Context value={navigation}>{children}</Context>
}

interface LinkProps extends Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "href"> {
  to: Target
}

/** A link to another view; with a modifier key it opens as any other link does. */
export function Link({ to, onClick, ...rest }: LinkProps) {
  const { go } = useNavigation()
  const follow = (event: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(event)
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || event.button !== 0) return
    event.preventDefault()
    go(to)
  }
  return <a {...rest} href={urlOf(to)} onClick={follow} />
}
