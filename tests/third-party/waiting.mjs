// Waiting for events, each wait with a deadline and a name, so that what hangs says what it was waiting for.

/** Milliseconds any single step may take. */
export const STEP = 10_000

/** Settles as `promise` does, or fails after `ms` with an error that names `what`. */
export function within (promise, what, ms = STEP) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** What arrives, in order; `take` waits for the next one. */
export class Inbox {
  #items = []
  #takers = []

  put (item) {
    const taker = this.#takers.shift()
    if (taker) taker(item)
    else this.#items.push(item)
  }

  async take (what, ms = STEP) {
    if (this.#items.length > 0) return this.#items.shift()
    let taker
    const next = new Promise(resolve => { taker = resolve; this.#takers.push(taker) })
    try {
      return await within(next, what, ms)
    } catch (error) {
      this.#takers = this.#takers.filter(other => other !== taker)
      throw error
    }
  }

  get length () { return this.#items.length }
}
