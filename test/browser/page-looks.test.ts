import { expect, test } from 'vitest'
import { started } from '../support/health-server.ts'
import { barriers, screenshot, useChromium } from './chromium.ts'
import { RARE_STATES } from './rare-states.ts'
import { MIXED, NOW, STATES, type ShownState } from './states.ts'

const PHONE = { width: 360, height: 740 }
const DESKTOP = { width: 1280, height: 900 }
/** Each size and each scheme of colours, not each pair: no style depends on both. */
const LOOKS = [
  { size: 'phone', viewport: PHONE, colorScheme: 'light' },
  { size: 'desktop', viewport: DESKTOP, colorScheme: 'dark' },
] as const

const open = useChromium()

const TITLES: Readonly<Record<string, string>> = {
  'all-well': 'All well',
  due: 'A renewal is due',
  'expired-issuer-down': '3 certificates expired',
  'not-enrolled': 'Not enrolled',
  mixed: '1 host key without a certificate',
  bare: '1 certificate not served',
  'far-off': 'All well',
  'sshd-down': 'sshd is down',
  'not-known': '1 certificate not served',
  'evidence-old': 'sshd could not be checked',
  ignored: 'All well',
}

const shown: Readonly<Record<string, ShownState>> = { ...STATES, mixed: MIXED, ...RARE_STATES }
const looks = Object.entries(shown).flatMap(([name, state]) =>
  LOOKS.map(({ size, viewport, colorScheme }) => ({ name, state, size, viewport, colorScheme })),
)

/** Host keys whose name takes more than one line. */
const BROKEN_NAMES = `[...document.querySelectorAll('h3.name, th.name')].filter((cell) => {
  const range = document.createRange()
  range.selectNodeContents(cell)
  return new Set([...range.getClientRects()].map(({ top }) => top)).size > 1
}).map(({ textContent }) => textContent)`

test.each(looks)('$name, $size, $colorScheme: no barriers, no complaints, nothing cut off', async (look) => {
  const { name, state, size, viewport, colorScheme } = look
  const { port } = await started({
    sources: { now: () => NOW, live: () => ({ ok: true, lastTurn: NOW }), ...state },
  })
  const origin = `http://127.0.0.1:${port}/`
  const options = { viewport, colorScheme, deviceScaleFactor: 2, reducedMotion: 'reduce' } as const
  const { page, urls, complaints } = await open(origin, options)

  expect(await page.title()).toBe(`${TITLES[name]} · web1.example.com · hostcertd`)
  expect(await page.textContent('#verdict strong')).toBe(TITLES[name])
  await screenshot(page, `${name}-${size}-${colorScheme}`)

  expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(viewport.width)
  expect(await page.evaluate(BROKEN_NAMES)).toEqual([])
  expect(await barriers(page)).toEqual([])
  expect(complaints).toEqual([])
  expect(urls.filter((url) => !url.startsWith(origin) && !url.startsWith('data:'))).toEqual([])
})
