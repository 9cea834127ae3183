/** Pages are rendered ahead, where Next.js refuses random values and the time. */
export default { cacheComponents: true, reactStrictMode: true }
