/**
 * The elements that Markdown becomes. Each block has the direction of its text; what may be scrolled can have the focus;
 * pictures become links, so that no text makes the browser call another server.
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
          const target = document.getElementById(decodeURIComponent(href.slice(1)))
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
    <section className="wide" aria-label="Table" tabIndex={0}>
      <table>{children}</table>
    </section>
  ),
  td: ({ node: _, ...rest }) => <td dir="auto" {...rest} className={breaking(rest.children)} />,
  th: ({ node: _, ...rest }) => <th dir="auto" {...rest} />,
  p: ({ children }) => <p dir="auto">{children}</p>,
  li: ({ node: _, ...rest }) => <li dir="auto" tabIndex={rest.id ? -1 : undefined} {...rest} />,
  ul: ({ node: _, ...rest }) => <ul dir="auto" {...rest} />,
  ol: ({ node: _, ...rest }) => <ol dir="auto" {...rest} />,
  blockquote: ({ children }) => <blockquote dir="auto">{children}</blockquote>,
  h2: ({ node: _, ...rest }) => <h2 dir="auto" {...rest} />,
  h3: ({ node: _, ...rest }) => <h3 dir="auto" {...rest} />,
  h4: ({ node: _, ...rest }) => <h4 dir="auto" {...rest} />,
  h5: ({ node: _, ...rest }) => <h5 dir="auto" {...rest} />,
  h6: ({ node: _, ...rest }) => <h6 dir="auto" {...rest} />,
  input: ({ checked }) => (
    <input type="checkbox" checked={checked} disabled aria-label={checked ? "done" : "not done"} />
  ),
  pre: ({ children }) => <CodeBlock>{children}</CodeBlock>,
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
