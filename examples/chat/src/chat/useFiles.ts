/** The files of the message that is being written: chosen, pasted, or dropped anywhere on the page. */
import { useCallback, useEffect, useRef, useState } from "react"
import type { Capabilities } from "../server"
import { type Attachment, attach } from "./attachments"

export function useFiles(takes: Capabilities) {
  const [attachments, setAttachments] = useState<Attachment[]>([])
  const [refusal, setRefusal] = useState("")
  const [isOver, setOver] = useState(false)
  const now = useRef(attachments)
  now.current = attachments
  const add = useCallback(
    async (files: Iterable<File>) => {
      const all = await attach([...files], now.current, takes)
      setAttachments(all.attachments)
      setRefusal(all.refusal)
    },
    [takes],
  )
  const set = useCallback((next: Attachment[]) => {
    setAttachments(next)
    setRefusal("")
  }, [])
  useEffect(() => {
    const life = new AbortController()
    const hasFiles = (event: DragEvent) => !!event.dataTransfer?.types.includes("Files")
    const over = (event: DragEvent) => {
      if (!hasFiles(event)) return
      event.preventDefault() // otherwise the browser leaves the page for the file
      setOver(true)
    }
    const leave = (event: DragEvent) => !event.relatedTarget && setOver(false)
    const drop = (event: DragEvent) => {
      if (!hasFiles(event)) return
      event.preventDefault()
      setOver(false)
      void add(event.dataTransfer?.files ?? [])
    }
    addEventListener("dragover", over, life)
    addEventListener("dragleave", leave, life)
    addEventListener("drop", drop, life)
    return () => life.abort()
  }, [add])
  return { attachments, refusal, isOver, add, set }
}
