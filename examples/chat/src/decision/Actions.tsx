/** The buttons of a decision. Those that answer it are large, and none of them is the default. */
import { Icon } from "../icons"
import type { YesNo } from "./yesNo"

/** Whether the answer is given, or none and a reason for that. */
export type Mode = "answer" | "reject"

interface Props {
  mode: Mode
  yesNo: YesNo | undefined
  isSending: boolean
  mayReject: boolean
  mayEdit: boolean
  isEditing: boolean
  onChoose: (answer: boolean) => void
  onMode: (mode: Mode) => void
  onEdit: () => void
}

export function Actions(props: Props) {
  const { mode, yesNo, isSending, mayReject, mayEdit, isEditing, onChoose, onMode, onEdit } = props
  const disabled = { "aria-disabled": isSending } // `disabled` would lose the focus
  return (
    <div className="actions">
      {mode === "reject" && (
        <button type="submit" className="danger" {...disabled}>
          Reject
        </button>
      )}
      {mode === "answer" && !yesNo && (
        <button type="submit" className="primary" {...disabled}>
          Submit
        </button>
      )}
      {mode === "answer" &&
        yesNo?.answers.map((answer) => (
          <button
            type="button"
            key={`${answer}`}
            className={answer ? "large approve" : "large decline"}
            onClick={() => onChoose(answer)}
            {...disabled}
          >
            <Icon name={answer ? "check" : "cross"} />
            {answer ? "Approve" : "Decline"}
          </button>
        ))}
      <span className="further">
        {mayEdit && (
          <button type="button" onClick={onEdit} disabled={isSending}>
            {isEditing ? "Undo changes" : "Edit input"}
          </button>
        )}
        {mayReject && (
          <button
            type="button"
            onClick={() => onMode(mode === "reject" ? "answer" : "reject")}
            disabled={isSending}
          >
            {mode === "reject" ? "Back" : "Reject …"}
          </button>
        )}
      </span>
    </div>
  )
}
