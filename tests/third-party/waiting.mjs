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

  /** Forgets what nobody took. */
  clear () { this.#items.length = 0 }

  get length () { return this.#items.length }
}

/** Everything that arrived, in order and kept; `first` waits for what fits. */
export class Chronicle {
  items = []
  #watchers = new Set()

  put (item) {
    this.items.push(item)
    for (const watcher of this.#watchers) watcher(item)
  }

  /** A place in it: pass it as `from` to see only what comes after. */
  get mark () { return this.items.length }

  since (from) { return this.items.slice(from) }

  /** The first item from `from` on that `fits`. */
  async first (fits, what, { from = 0, ms = STEP } = {}) {
    const there = this.items.slice(from).find(fits)
    if (there !== undefined) return there
    let watcher
    const next = new Promise(resolve => {
      watcher = item => { if (fits(item)) resolve(item) }
      this.#watchers.add(watcher)
    })
    return within(next, what, ms).catch(error => {
      const last = this.items.slice(from).slice(-20).map(item => item.name ?? JSON.stringify(item))
      throw new Error(`${error.message}; came: ${last.join(', ')}`, { cause: error })
    }).finally(() => this.#watchers.delete(watcher))
  }
}
