/** How long something takes or is ago, in one unit. */
export function age(ms: number): string {
  const seconds = Math.max(0, ms) / 1000
  if (seconds < 60) return "moments"
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} days`
}
