/** The filters of a view: they are in its URL, so that a link or a reload shows the same. */
import { useCallback } from "react"
import { useNavigation } from "../../frame/navigation"

export interface Filters {
  /** The filters that are set, of those that the view has. */
  values: Record<string, string>
  /** Sets a filter, or with an empty value removes it; the list begins anew. */
  set: (name: string, value: string) => void
  clear: () => void
}

/** `names`: the filters that the view has. `keep`: what else of the URL stays when a filter changes. */
export function useFilters(names: readonly string[], keep: readonly string[] = []): Filters {
  const { place, stay } = useNavigation()
  const { query } = place
  const set = useCallback(
    (name: string, value: string) => {
      const { [name]: _, ...others } = only(query, [...names, ...keep])
      stay({ query: value ? { ...others, [name]: value } : others })
    },
    [query, names, keep, stay],
  )
  const clear = useCallback(() => stay({ query: only(query, keep) }), [query, keep, stay])
  return { values: only(query, names), set, clear }
}

function only(query: Record<string, string>, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(query).filter(([name, value]) => value && names.includes(name)))
}
