/**
 * Shows a value that is to be executed, all of it, so that nothing can hide: what cannot be seen, or changes the order in
 * which a text is read, stands there as an escape. The terminal does the same (agentkit/cli/text.py).
 */
import { Fragment } from "react"

const HIDDEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  // biome-ignore lint/suspicious/noMisleadingCharacterClass: single characters are looked for
  /([\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{110bd}\u{110cd}\u{13430}-\u{1343f}\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}])/u

/** Texts that would look like another value, or whose end cannot be seen, are shown in JSON's quotes. */
const UNCLEAR = /^$|^\s|\s$|^(?:["[{]|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$|true$|false$|null$)/i

export function Exact({ value }: { value: unknown }) {
  return (
    <ExactText
      text={typeof value === "string" && !UNCLEAR.test(value) ? value : JSON.stringify(value, null, 2)}
    />
  )
}

/** A text, with what cannot be seen made visible. */
export function ExactText({ text }: { text: string }) {
  return (
    <bdi className="exact">
      {text.split(HIDDEN).map((part, at) => {
        const key = `${at}`
        if (at % 2 === 0) return <Fragment key={key}>{part}</Fragment>
        return (
          <span className="escape" key={key} title="A character that cannot be seen">
            {escaped(part)}
          </span>
        )
      })}
    </bdi>
  )
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\u{${code.toString(16)}}`
}
