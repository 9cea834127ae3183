/** Cuts a long Markdown text into pieces that a parser, whose time may grow with the square of a text, reads soon. */

/** Characters of a piece. */
const MOST = 10_000
/** Quotes and list items that one line may open; each costs a level of everything that walks over the text. */
const MOST_OPENED = 20

const OPENED = new RegExp(String.raw`^(?:[ \t]*(?:>|[-+*]|\d{1,9}[.)])){${MOST_OPENED}}`, "m")
const FENCE = /^ {0,3}(?:`{3,}|~{3,})/

/** Whether a piece is better shown as it is. */
export function isPlain(piece: string): boolean {
  return piece.length > MOST || OPENED.test(piece)
}

/** The pieces of a text, cut at empty lines outside of fenced code; a short text is one. */
export function piecesOf(text: string): string[] {
  if (text.length <= MOST) return [text]
  const pieces: string[] = []
  let piece = ""
  for (const block of blocksOf(text)) {
    if (piece && piece.length + block.length > MOST) {
      pieces.push(piece)
      piece = ""
    }
    piece += block
  }
  pieces.push(piece)
  return pieces
}

function blocksOf(text: string): string[] {
  const blocks: string[] = []
  let lines: string[] = []
  let isCode = false
  for (const line of text.split(/(?<=\n)/)) {
    lines.push(line)
    if (FENCE.test(line)) isCode = !isCode
    if (!isCode && line.trim() === "") {
      blocks.push(lines.join(""))
      lines = []
    }
  }
  blocks.push(lines.join(""))
  return blocks
}
