/** How long an item still waits, counted down, and more time for it. */
import { useEffect, useState } from "react"
import { now } from "../server"

interface Props {
  createdAt: number
  expiresAt: number
  /** Asks for so many more milliseconds; resolves to whether they were given. */
  onExtend: (ms: number) => Promise<boolean>
}

export function TimeLeft({ createdAt, expiresAt, onExtend }: Props) {
  const left = useCountdown(expiresAt)
  const [isAsking, setAsking] = useState(false)
  const period = Math.min(Math.max(expiresAt - createdAt, 60_000), 86_400_000)
  const more = Math.round(period / 60_000) * 60_000
  const extend = async () => {
    setAsking(true)
    await onExtend(more)
    setAsking(false)
  }
  return (
    <span className={left < 60_000 ? "time-left soon" : "time-left"}>
      <time dateTime={new Date(expiresAt).toISOString()} title={new Date(expiresAt).toLocaleString()}>
        {left > 0 ? `${duration(left)} left` : "The time is over"}
      </time>
      {left > 0 && (
        <button type="button" className="small" onClick={extend} aria-disabled={isAsking}>
          {duration(more)} more
        </button>
      )}
    </span>
  )
}

function useCountdown(until: number): number {
  const [left, setLeft] = useState(() => until - now())
  useEffect(() => {
    const tick = () => setLeft(until - now())
    tick()
    const timer = setInterval(tick, until - now() < 2 * 3_600_000 ? 1000 : 30_000)
    return () => clearInterval(timer)
  }, [until])
  return left
}

/** A time span for people: seconds below two minutes count, above that minutes, hours or days. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600)
    return seconds % 60
      ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`
      : `${seconds / 60} min`
  if (seconds < 172_800) {
    const minutes = Math.floor((seconds % 3600) / 60)
    return `${Math.floor(seconds / 3600)} h${minutes ? ` ${minutes} min` : ""}`
  }
  return `${Math.floor(seconds / 86_400)} days`
}
