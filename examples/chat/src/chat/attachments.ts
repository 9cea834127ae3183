/** Files as blocks of a message, as far as the agent's model takes them. */
import type { Capabilities } from "../server"

export interface Attachment {
  type: "image" | "document" | "audio"
  data: string
  mimeType: string
  name: string
}

/** Bytes of all files of a message: base64 makes four of three, and a body may have 10 MB. */
const MOST_BYTES = 7_000_000

/** The `accept` of a file field; "" where the model takes no files. */
export function acceptOf({ images, documents, audio }: Capabilities): string {
  return [images && "image/*", documents && "application/pdf,application/json,text/*", audio && "audio/*"]
    .filter(Boolean)
    .join(",")
}

/** Reads files beside those that are there. Returns all, and why some were left out. */
export async function attach(
  files: readonly File[],
  before: readonly Attachment[],
  takes: Capabilities,
): Promise<{ attachments: Attachment[]; refusal: string }> {
  const attachments = [...before]
  const refusals: string[] = []
  for (const file of files) {
    const type = typeOf(file.type, takes)
    if (!type) refusals.push(`The model does not take ${file.name} (${file.type || "of unknown type"}).`)
    else if (sizeOf(attachments) + file.size > MOST_BYTES) refusals.push(`${file.name} is too large to send.`)
    else attachments.push({ type, data: await base64(file), mimeType: file.type, name: file.name })
  }
  return { attachments, refusal: refusals.join(" ") }
}

function typeOf(
  mimeType: string,
  { images, documents, audio }: Capabilities,
): Attachment["type"] | undefined {
  if (mimeType.startsWith("image/")) return images ? "image" : undefined
  if (mimeType.startsWith("audio/")) return audio ? "audio" : undefined
  const isDocument = /^(?:text\/|application\/(?:pdf|json)$)/.test(mimeType)
  return isDocument && documents ? "document" : undefined
}

function sizeOf(attachments: readonly Attachment[]): number {
  return attachments.reduce((sum, { data }) => sum + data.length * 0.75, 0)
}

function base64(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader()
    reader.onload = () => resolve(String(reader.result).split(",", 2)[1] ?? "")
    reader.onerror = () => reject(reader.error)
    reader.readAsDataURL(file)
  })
}
