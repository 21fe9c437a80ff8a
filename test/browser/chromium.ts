import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import axe, { type Result } from 'axe-core'
import {
  chromium,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type Page,
} from 'playwright-core'
import { afterAll, beforeAll, onTestFinished } from 'vitest'

/** Debian's; playwright brings none along. */
const PROGRAM = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((path) => existsSync(path))

/** A browser that speaks to nobody by itself. */
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
]

export interface Opened {
  readonly page: Page
  readonly context: BrowserContext
  /** Of every request that was tried, in order. */
  readonly urls: readonly string[]
  /** Errors and warnings of the console, violations of the policy among them, and what the script threw. */
  readonly complaints: readonly string[]
}

/**
 * One browser for a test file, launched before its first test.
 *
 * @returns opens a page in a fresh profile, closed when the test is over
 */
export function useChromium(): (url: string, options?: BrowserContextOptions) => Promise<Opened> {
  let browser: Browser | null = null
  beforeAll(async () => {
    if (PROGRAM === undefined) throw new Error('no chromium: run test/support/ensure-tools.sh browser')
    browser = await chromium.launch({ executablePath: PROGRAM, args: ARGUMENTS, headless: true })
  })
  afterAll(async () => browser?.close())
  return async (url, options = {}) => {
    if (browser === null) throw new Error('chromium is not running')
    const context = await browser.newContext(options)
    onTestFinished(() => context.close())
    const page = await context.newPage()
    const urls: string[] = []
    const complaints: string[] = []
    page.on('request', (request) => urls.push(request.url()))
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
    })
    page.on('pageerror', (error) => complaints.push(error.message))
    await page.goto(url)
    return { page, context, urls, complaints }
  }
}

/** Built, not committed. */
const SCREENSHOTS = fileURLToPath(new URL('../../coverage/screenshots', import.meta.url))

/** The whole page as `NAME.png`, for people to look at. */
export async function screenshot(page: Page, name: string): Promise<void> {
  await mkdir(SCREENSHOTS, { recursive: true })
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true })
}

/** What axe finds, all its rules, best practices too: `rule: element`. */
export async function barriers(page: Page): Promise<string[]> {
  await page.evaluate(axe.source)
  const violations = await page.evaluate<Result[]>('axe.run().then(({ violations }) => violations)')
  return violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`),
  )
}
