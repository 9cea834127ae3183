/** The page's icons, in the colour of the text. */
const PATHS = {
  menu: "M4 7h16M4 12h16M4 17h10",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 5v14M6 13l6 6 6-6",
  chevron: "M9 6l6 6-6 6",
  check: "M5 12.5l4.5 4.5L19 7.5",
  cross: "M7 7l10 10M17 7L7 17",
  hand: "M12 8v5M12 16.5v.1M12 3.5l9 16H3z",
  thought:
    "M12 3v3M5.6 5.6l2.2 2.2M3 12h3M18 12h3M16.2 7.8l2.2-2.2M9 17h6M10 20.5h4M12 9a4 4 0 0 1 2.5 7.1V17h-5v-.9A4 4 0 0 1 12 9z",
  left: "M15 6l-6 6 6 6",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 2",
  dash: "M7 12h10",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  clip: "M20 11l-8.5 8.5a5 5 0 0 1-7-7L13 4a3.4 3.4 0 0 1 4.8 4.8L9.5 17a1.7 1.7 0 0 1-2.4-2.4L14.5 7",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5L20 20",
  up: "M12 19V5M6 11l6-6 6 6",
  edit: "M4 20h4L19 9l-4-4L4 16z",
  again: "M20 12a8 8 0 1 1-2.5-5.8M20 3v5h-5",
}

export type IconName = keyof typeof PATHS

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  )
}
