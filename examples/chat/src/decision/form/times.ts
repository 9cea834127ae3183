/**
 * Times as JSON Schema has them (RFC 3339: with seconds and an offset) and as a browser's fields have them (local, without
 * either). A value that had no offset before has none afterwards: its tool counts in a time zone of its own.
 */

export type TimeFormat = "date" | "time" | "date-time"

const NAIVE_TIME = /^\d\d:\d\d(?::\d\d(?:\.\d+)?)?$/
const NAIVE_DATE_TIME = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?$/
const OFFSET = /(?:[zZ]|[+-]\d\d:\d\d)$/

/** Returns the text for a browser's field; undefined where it cannot show the value. */
export function toField(format: TimeFormat, value: string): string | undefined {
  if (format === "date") return /^\d{4}-\d\d-\d\d$/.test(value) ? value : undefined
  if (format === "time") {
    const time = value.replace(OFFSET, "")
    return NAIVE_TIME.test(time) ? time.slice(0, 8) : undefined
  }
  if (NAIVE_DATE_TIME.test(value)) return value.replace(" ", "T").slice(0, 19)
  const time = new Date(value)
  if (!OFFSET.test(value) || Number.isNaN(time.getTime())) return undefined
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 19)
}

/** Returns the value for what a browser's field has. `before`: the value that it had, whose offset stays. */
export function fromField(format: TimeFormat, text: string, before: string | undefined): string {
  if (format === "date") return text
  const whole = /\d\d:\d\d:\d\d/.test(text) ? text : `${text}:00`
  if (before !== undefined && !OFFSET.test(before)) return whole
  if (format === "time") return whole + (OFFSET.exec(before ?? "")?.[0] ?? offsetOf(new Date()))
  return whole + offsetOf(new Date(whole))
}

/** The offset of the browser's time zone at a time, as in `+01:00`; `Z` where there is none. */
export function offsetOf(time: Date): string {
  const minutes = -time.getTimezoneOffset()
  if (!minutes) return "Z"
  const two = (number: number) => String(Math.floor(Math.abs(number))).padStart(2, "0")
  return `${minutes < 0 ? "-" : "+"}${two(minutes / 60)}:${two(Math.abs(minutes) % 60)}`
}
