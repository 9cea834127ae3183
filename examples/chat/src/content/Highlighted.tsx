/** Code in colours, by highlight.js. Its parts become elements and no HTML. This file is loaded with the first code. */

import type { Root, RootContent } from "hast"
import { toJsxRuntime } from "hast-util-to-jsx-runtime"
import bash from "highlight.js/lib/languages/bash"
import css from "highlight.js/lib/languages/css"
import diff from "highlight.js/lib/languages/diff"
import go from "highlight.js/lib/languages/go"
import java from "highlight.js/lib/languages/java"
import javascript from "highlight.js/lib/languages/javascript"
import json from "highlight.js/lib/languages/json"
import python from "highlight.js/lib/languages/python"
import rust from "highlight.js/lib/languages/rust"
import sql from "highlight.js/lib/languages/sql"
import typescript from "highlight.js/lib/languages/typescript"
import xml from "highlight.js/lib/languages/xml"
import yaml from "highlight.js/lib/languages/yaml"
import { createLowlight } from "lowlight"
import { memo, type ReactNode } from "react"
import { Fragment, jsx, jsxs } from "react/jsx-runtime"

const lowlight = createLowlight({
  bash,
  css,
  diff,
  go,
  java,
  javascript,
  json,
  python,
  rust,
  sql,
  typescript,
  xml,
  yaml,
})

interface Props {
  code: string
  language: string
}

/** Elements within elements up to which code is coloured: each level costs whoever walks over it. */
const MOST_LEVELS = 30

function isShallow(tree: Root): boolean {
  let level: readonly RootContent[] = tree.children
  for (let depth = 0; level.length; depth += 1) {
    if (depth > MOST_LEVELS) return false
    level = level.flatMap((node) => (node.type === "element" ? node.children : []))
  }
  return true
}

export default memo(function Highlighted({ code, language }: Props): ReactNode {
  if (!lowlight.registered(language)) return code
  const tree = lowlight.highlight(language, code)
  return isShallow(tree) ? toJsxRuntime(tree, { Fragment, jsx, jsxs }) : code
})
