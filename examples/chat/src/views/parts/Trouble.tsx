/** Why a list or a run cannot be shown, and what to do about it. */
import { failureText } from "../../server"

interface Props {
  /** The HTTP status of the failed request; 0 where there was no response. */
  failure: number
  /** Removes the filters, where there are some. */
  onClear?: (() => void) | undefined
}

export function Trouble({ failure, onClear }: Props) {
  return (
    <div className="trouble" role="alert">
      <p>{failure === 400 ? "The server does not take these filters." : failureText(failure)}</p>
      {failure === 400 && onClear && (
        <button type="button" onClick={onClear}>
          Show all
        </button>
      )}
    </div>
  )
}
