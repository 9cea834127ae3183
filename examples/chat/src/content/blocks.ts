/** What the blocks of a Markdown text have beside their text: two rehype plugins. */
import type { Element, Root, RootContent } from "hast"

/**
 * Has headings stand below the page's own, with no level left out, however the model has numbered them. The class `depth-N` says which level the model wrote.
 */
export function headingLevels() {
  return (tree: Root): void => {
    const open: { depth: number; level: number }[] = []
    for (const heading of headingsOf(tree.children)) {
      const depth = Number(heading.tagName[1])
      while ((open.at(-1)?.depth ?? 0) >= depth) open.pop()
      const level = Math.min((open.at(-1)?.level ?? 1) + 1, 6)
      open.push({ depth, level })
      heading.tagName = `h${level}`
      heading.properties.className = [
        `depth-${depth}`,
        ...[heading.properties.className ?? []].flat().map(String),
      ]
    }
  }
}

function headingsOf(nodes: readonly RootContent[]): Element[] {
  return nodes.flatMap((node) => {
    if (node.type !== "element") return []
    return /^h[1-6]$/.test(node.tagName) ? [node] : headingsOf(node.children)
  })
}

/** Gives each block the direction of its text; the cells of a table each their own. What is in a block inherits its. */
export function directions() {
  return (tree: Root): void => {
    for (const node of tree.children) {
      if (node.type !== "element") continue
      for (const block of node.tagName === "table" ? cellsOf(node) : [node]) block.properties.dir = "auto"
    }
  }
}

function cellsOf({ children }: Element): Element[] {
  return children.flatMap((node) => {
    if (node.type !== "element") return []
    return node.tagName === "td" || node.tagName === "th" ? [node] : cellsOf(node)
  })
}
