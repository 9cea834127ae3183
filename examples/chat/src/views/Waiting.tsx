/** All items that wait for an answer, over all runs that the caller may see; and how earlier ones were answered. */
import { Heading } from "../frame/Heading"
import { Link, useNavigation } from "../frame/navigation"
import { AnswerList } from "./waiting/AnswerList"
import { Inbox } from "./waiting/Inbox"

export default function Waiting() {
  const { query } = useNavigation().place
  const isAnswered = query.show === "answered"
  const tabs = [
    { name: "Waiting", show: undefined, isOpen: !isAnswered },
    { name: "Answered", show: "answered", isOpen: isAnswered },
  ]
  return (
    <div className="view">
      <Heading>{isAnswered ? "Answered" : "Waiting"}</Heading>
      <nav className="tabs" aria-label="Items">
        {tabs.map(({ name, show, isOpen }) => {
          const { show: _, cursor: __, ...filters } = query
          return (
            <Link
              key={name}
              to={{ view: "waiting", query: show ? { ...filters, show } : filters }}
              aria-current={isOpen ? "page" : undefined}
            >
              {name}
            </Link>
          )
        })}
      </nav>
      {isAnswered ? <AnswerList /> : <Inbox />}
    </div>
  )
}
