/** The server's metrics: the numbers without labels of a Prometheus text. */
import { useEffect, useState } from "react"
import { API } from "../../server"

/** Reads the metrics again every `every` milliseconds while the page is visible; empty where the server has none. */
export function useMetrics(every: number): ReadonlyMap<string, number> {
  const [metrics, setMetrics] = useState<ReadonlyMap<string, number>>(new Map())
  useEffect(() => {
    const life = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    const ask = async () => {
      if (!document.hidden) {
        const text = await fetch(`${API}/metrics`, { signal: life.signal })
          .then((response) => (response.ok ? response.text() : ""))
          .catch(() => "")
        if (life.signal.aborted) return
        setMetrics(numbersOf(text))
      }
      timer = setTimeout(ask, every)
    }
    void ask()
    return () => {
      life.abort()
      clearTimeout(timer)
    }
  }, [every])
  return metrics
}

function numbersOf(text: string): ReadonlyMap<string, number> {
  const lines = text.matchAll(/^([a-z_]+) (\d+(?:\.\d+)?)$/gm)
  return new Map(Array.from(lines, ([, name = "", value]) => [name, Number(value)]))
}
