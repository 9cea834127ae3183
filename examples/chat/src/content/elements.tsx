/**
 * The elements that Markdown becomes. What may be scrolled can have the focus; pictures become links, so that no text makes
 * the browser call another server.
 */
import {
  type ComponentProps,
  type ComponentType,
  isValidElement,
  lazy,
  type ReactNode,
  Suspense,
} from "react"
import type { Components } from "react-markdown"
import { CopyButton } from "./CopyButton"
import { Pre } from "./Pre"

/** Without its file code is shown without colours. */
const Highlighted = lazy(
  (): Promise<{ default: ComponentType<{ code: string; language: string }> }> =>
    import("./Highlighted").catch(() => ({ default: ({ code }) => code })),
)

/** Characters up to which code is coloured: the time for it may grow faster than the text. */
const MOST_COLOURED = 5_000

const OUTSIDE = { target: "_blank", rel: "noopener noreferrer nofollow" }

/** Numbers, dates and amounts, which no column may break. */
const UNBREAKABLE = /^[\s\d.,:;/%‰+\-–−$€£¥()]+$/

export const ELEMENTS: Components = {
  a: ({ node: _, href = "", children, ...rest }) =>
    href.startsWith("#") ? (
      <a
        {...rest}
        href={href}
        onClick={(event) => {
          event.preventDefault() // the fragment of the page's URL names its view
          const target = targetOf(href)
          target?.scrollIntoView({ block: "center" })
          target?.focus()
        }}
      >
        {children}
      </a>
    ) : (
      <a href={href} {...OUTSIDE}>
        {children}
      </a>
    ),
  img: ({ src, alt }) => (
    <a href={typeof src === "string" ? src : undefined} {...OUTSIDE}>
      {alt || "picture"}
    </a>
  ),
  table: ({ children }) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a box that scrolls must be reachable by keyboard
    <div className="wide" tabIndex={0}>
      <table>{children}</table>
    </div>
  ),
  td: ({ node: _, ...rest }) => <td {...rest} className={breaking(rest.children)} />,
  li: ({ node: _, ...rest }) => <li tabIndex={rest.id ? -1 : undefined} {...rest} />,
  input: ({ checked }) => (
    <input type="checkbox" checked={checked} disabled aria-label={checked ? "done" : "not done"} />
  ),
  pre: ({ children }) => <CodeBlock>{children}</CodeBlock>,
}

/** The element that a fragment names; none where it is no fragment of a URL. */
function targetOf(fragment: string): HTMLElement | null {
  try {
    return document.getElementById(decodeURIComponent(fragment.slice(1)))
  } catch {
    return null
  }
}

/** The class of a table's cell, by what is in it. */
function breaking(children: ReactNode): string | undefined {
  return typeof children === "string" && UNBREAKABLE.test(children) ? "number" : undefined
}

function CodeBlock({ children }: { children: ReactNode }) {
  const { className = "", children: text } = isValidElement<ComponentProps<"code">>(children)
    ? children.props
    : {}
  const code = typeof text === "string" ? text : ""
  const language = /language-(\S+)/.exec(className)?.[1]
  const isColoured = language !== undefined && code.length <= MOST_COLOURED
  return (
    <div className="code-block">
      <Pre>
        <code>
          {isColoured ? (
            <Suspense fallback={code}>
              <Highlighted code={code} language={language} />
            </Suspense>
          ) : (
            code
          )}
        </code>
      </Pre>
      <CopyButton text={code} what="code" />
    </div>
  )
}
