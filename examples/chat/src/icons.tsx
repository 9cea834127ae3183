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
  dash: "M7 12h10",
}

export type IconName = keyof typeof PATHS

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  )
}
