/** Goes from one branch of the conversation to another, at the message where they part. */
import { Icon } from "../icons"

interface Props {
  /** The runs that lead to the branches, the shown one among them. */
  runIds: readonly string[]
  shown: string | undefined
  onOpen: (runId: string) => void
}

export function Branches({ runIds, shown, onOpen }: Props) {
  const at = runIds.indexOf(shown ?? "")
  const before = runIds[at - 1]
  const after = runIds[at + 1]
  return (
    <span className="branches">
      <button type="button" className="ghost" disabled={!before} onClick={() => before && onOpen(before)}>
        <Icon name="left" />
        <span className="hidden">Earlier version</span>
      </button>
      <span>
        {at + 1} / {runIds.length}
      </span>
      <button type="button" className="ghost" disabled={!after} onClick={() => after && onOpen(after)}>
        <Icon name="chevron" />
        <span className="hidden">Later version</span>
      </button>
    </span>
  )
}
