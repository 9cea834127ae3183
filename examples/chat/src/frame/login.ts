/** Where a person logs in: at the host's own page, which the server names in a 401. */

const SENT_AT = "agentkit.login"
/** Milliseconds within which somebody who comes back and is still not known is not sent away again. */
const PAUSE = 15_000

/** Returns the URL of the login, which leads back to where the page is now. */
export function loginUrlOf(loginUrl: string): string {
  const url = new URL(loginUrl, location.href)
  const here = location.pathname + location.search + location.hash
  url.searchParams.set("next", url.origin === location.origin ? here : location.href)
  return url.href
}

/** Goes to the login, unless the page has just come from there. */
export function goToLogin(loginUrl: string): void {
  const sentAt = Number(sessionStorage.getItem(SENT_AT))
  if (Date.now() - sentAt < PAUSE) return
  sessionStorage.setItem(SENT_AT, `${Date.now()}`)
  location.assign(loginUrlOf(loginUrl))
}

/** Notes that the server knows who is asking: it may ask again at any time. */
export function noteLogin(): void {
  sessionStorage.removeItem(SENT_AT)
}
