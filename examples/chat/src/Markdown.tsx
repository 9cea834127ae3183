/**
 * A model's text as Markdown. It comes from outside and is trusted with nothing: react-markdown builds elements and
 * no HTML, links open without a way back, and pictures stay links, so that no text makes the browser ask a stranger.
 * What cannot be parsed is shown as it is, and what grows is not parsed for more than a part of the time.
 */
import { Component, memo, type ReactNode, useEffect, useLayoutEffect, useRef, useState } from "react"
import ReactMarkdown, { type Components } from "react-markdown"
import remarkGfm from "remark-gfm"

const PLUGINS = [remarkGfm]

const COMPONENTS: Components = {
  a: ({ href, children }) => (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  ),
  img: ({ src, alt }) => (
    <a href={typeof src === "string" ? src : undefined} target="_blank" rel="noopener noreferrer nofollow">
      {alt || "picture"}
    </a>
  ),
  table: ({ children }) => (
    <div className="wide">
      <table>{children}</table>
    </div>
  ),
}

interface Props {
  text: string
  grows: boolean
}

export const Markdown = memo(function Markdown({ text, grows }: Props) {
  const shown = usePaced(text, grows)
  return (
    <div className="markdown">
      <Careful text={text}>
        <Parsed text={shown} />
      </Careful>
    </div>
  )
})

const Parsed = memo(function Parsed({ text }: { text: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS}>
      {text}
    </ReactMarkdown>
  )
})

/** Deep nesting overflows the parser's stack. The page around the text is not to fall with it. */
class Careful extends Component<{ text: string; children: ReactNode }, { hasFailed: boolean }> {
  override state = { hasFailed: false }

  static getDerivedStateFromError() {
    return { hasFailed: true }
  }

  override render(): ReactNode {
    return this.state.hasFailed ? <pre>{this.props.text}</pre> : this.props.children
  }
}

/** Each piece of a growing text means parsing all of it again: between two times it rests so much longer than that takes. */
const REST = 4

/** The text to be shown now: all of one that has ended, and of one that grows what there was when it was parsed last. */
function usePaced(text: string, grows: boolean): string {
  const began = performance.now()
  const [last, show] = useState(text)
  const latest = useRef(text)
  const due = useRef(0)
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  const shown = grows ? last : text
  // biome-ignore lint/correctness/useExhaustiveDependencies: what was parsed just now is a new `shown`
  useLayoutEffect(() => {
    const now = performance.now()
    due.current = now + (now - began) * REST
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
