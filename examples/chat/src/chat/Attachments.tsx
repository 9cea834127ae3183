/** The files that will be sent with the message. */
import { Icon } from "../icons"
import type { Attachment } from "./attachments"

interface Props {
  attachments: readonly Attachment[]
  onRemove: (index: number) => void
}

export function Attachments({ attachments, onRemove }: Props) {
  if (!attachments.length) return null
  return (
    <ul className="attachments" aria-label="Files of the message">
      {attachments.map(({ type, data, mimeType, name }, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the same file may be there twice
        <li key={at}>
          {type === "image" && <img src={`data:${mimeType};base64,${data}`} alt="" />}
          <span className="file-name">{name}</span>
          <button type="button" className="ghost" onClick={() => onRemove(at)}>
            <Icon name="close" />
            <span className="hidden">Remove {name}</span>
          </button>
        </li>
      ))}
    </ul>
  )
}
