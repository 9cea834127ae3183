/** Copies a text, and says so. */
import { useEffect, useState } from "react"
import { Icon } from "../icons"

/** Milliseconds for which the button says that it has copied. */
const SHOWN = 2000

export function CopyButton({ text, what }: { text: string; what: string }) {
  const [isCopied, setCopied] = useState(false)
  useEffect(() => {
    if (!isCopied) return
    const timer = setTimeout(() => setCopied(false), SHOWN)
    return () => clearTimeout(timer)
  }, [isCopied])
  return (
    <button
      type="button"
      className="copy"
      title={isCopied ? "Copied" : `Copy ${what}`}
      onClick={async () => setCopied(await copy(text))}
    >
      <Icon name={isCopied ? "check" : "copy"} />
      <span className="hidden">Copy {what}</span>
      <span className="hidden" role="status">
        {isCopied ? "Copied" : ""}
      </span>
    </button>
  )
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return copyBySelection(text) // a page without TLS has no clipboard
  }
}

function copyBySelection(text: string): boolean {
  const focused = document.activeElement
  const area = document.createElement("textarea")
  area.value = text
  area.className = "hidden"
  document.body.append(area)
  area.select()
  const isCopied = document.execCommand("copy")
  area.remove()
  if (focused instanceof HTMLElement) focused.focus()
  return isCopied
}
