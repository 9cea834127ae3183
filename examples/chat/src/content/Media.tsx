/** Images, documents and audio. Nothing is fetched from elsewhere: a URL is a link, for a person to follow. */
import type { AudioBlock, DocumentBlock, ImageBlock } from "@agentkit/react"

export type MediaBlock = ImageBlock | DocumentBlock | AudioBlock

export function Media({ block }: { block: MediaBlock }) {
  if (block.type === "image" && block.url !== undefined) {
    return (
      <a className="media" href={block.url} target="_blank" rel="noreferrer noopener">
        Image at {block.url}
      </a>
    )
  }
  const source = `data:${block.mimeType};base64,${block.data}`
  if (block.type === "image") return <img className="media" alt="Shown in the conversation" src={source} />
  // biome-ignore lint/a11y/useMediaCaption: there are none
  if (block.type === "audio") return <audio className="media" controls src={source} />
  const name = block.name || "Document"
  return (
    <a className="media" href={source} download={name}>
      {name} ({block.mimeType})
    </a>
  )
}
