/** A text that may be long: its beginning, and on demand the rest, with what cannot be seen made visible. */
import { useState } from "react"
import { ExactText } from "../../content/Exact"

const SHOWN = 2000

export function Clipped({ text }: { text: string }) {
  const [isWhole, setWhole] = useState(text.length <= SHOWN)
  return (
    <>
      <ExactText text={isWhole ? text : `${text.slice(0, SHOWN)} …`} />
      {!isWhole && (
        <button type="button" className="small" onClick={() => setWhole(true)}>
          Show all {text.length.toLocaleString("en")} characters
        </button>
      )}
    </>
  )
}
