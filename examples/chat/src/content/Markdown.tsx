/**
 * A model's text as Markdown. It is untrusted: react-markdown builds elements (elements.tsx) and no HTML. Parsing takes a
 * bounded time: a long text is parsed in pieces, and a piece that would nest deeply, is too long or comes when the time is used up is shown as it
 * is, as is what cannot be parsed. Growing text is parsed for a bounded part of the time.
 */
import { Component, memo, type ReactNode, useEffect, useId, useLayoutEffect, useRef, useState } from "react"
import ReactMarkdown from "react-markdown"
import remarkGfm from "remark-gfm"
import { directions, headingLevels } from "./blocks"
import { ELEMENTS } from "./elements"
import { isPlain, piecesOf } from "./pieces"

const PLUGINS = [remarkGfm]
const BLOCKS = [headingLevels, directions]

interface Props {
  text: string
  grows: boolean
}

export const Markdown = memo(function Markdown({ text, grows }: Props) {
  const shown = usePaced(text, grows)
  const budget = useRef({ left: 0 })
  budget.current.left = PARSE_MS
  return (
    <div className="markdown">
      {piecesOf(shown).map((piece, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: text grows at its end alone
        <ParserBoundary text={piece} key={index}>
          <Parsed text={piece} budget={budget.current} />
        </ParserBoundary>
      ))}
    </div>
  )
})

/** The milliseconds in which one text is parsed; those of its pieces that have not changed are not parsed again. */
const PARSE_MS = 500

const Parsed = memo(function Parsed({ text, budget }: { text: string; budget: { left: number } }) {
  const id = useId()
  if (budget.left <= 0 || isPlain(text)) return <Plain text={text} />
  const startedAt = performance.now()
  const parsed = ReactMarkdown({
    remarkPlugins: PLUGINS,
    rehypePlugins: BLOCKS,
    remarkRehypeOptions: { clobberPrefix: `${id}-` }, // footnotes of several texts on one page
    components: ELEMENTS,
    children: text,
  })
  budget.left -= performance.now() - startedAt
  return parsed
})

function Plain({ text }: { text: string }) {
  return (
    <div dir="auto">
      {/* not of its own direction: a browser would then look for that of each line, which takes long */}
      <pre className="plain">{text}</pre>
    </div>
  )
}

/** Shows the plain text where parsing fails, so that the page stays. */
class ParserBoundary extends Component<{ text: string; children: ReactNode }, { hasFailed: boolean }> {
  override state = { hasFailed: false }

  static getDerivedStateFromError() {
    return { hasFailed: true }
  }

  override render(): ReactNode {
    return this.state.hasFailed ? <Plain text={this.props.text} /> : this.props.children
  }
}

/** A growing text is parsed anew as a whole: after each time it waits so many times as long as that took. */
const PAUSE_FACTOR = 4

/** Returns the text to show: all of one that has ended, and of a growing one what was there at the last parse. */
function usePaced(text: string, grows: boolean): string {
  const startedAt = performance.now()
  const [last, show] = useState(text)
  const latest = useRef(text)
  const due = useRef(0)
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  const shown = grows ? last : text
  // biome-ignore lint/correctness/useExhaustiveDependencies: what was parsed just now is a new `shown`
  useLayoutEffect(() => {
    const now = performance.now()
    due.current = now + (now - startedAt) * PAUSE_FACTOR
  }, [shown])
  useEffect(() => {
    latest.current = text
    if (text === shown) return
    timer.current ??= setTimeout(() => {
      timer.current = undefined
      show(latest.current)
    }, due.current - performance.now())
  }, [text, shown])
  useEffect(
    () => () => {
      clearTimeout(timer.current)
      timer.current = undefined
    },
    [],
  )
  return shown
}
