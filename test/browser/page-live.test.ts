import { rm } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { untilReady } from '../support/looks.ts'
import { makeWorld } from '../support/world.ts'
import { barriers, screenshot, useChromium } from './chromium.ts'

const open = useChromium()
const SOON = { timeout: 20_000 }
/** The page asks ever less often while nobody answers. */
const LATER = { timeout: 45_000 }

test('the page of a real daemon follows what happens, without a reload; says when it is old; recovers', async () => {
  await using world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] } })
  const { agent, sshd } = world
  await agent.start()
  await untilReady(world)
  const { page, urls } = await open(`http://127.0.0.1:${agent.healthPort}/`)
  await page.evaluate('window.stillHere = true')
  await page.locator('#verdict strong', { hasText: 'All well' }).waitFor(SOON)
  await page.locator('#sshd td', { hasText: 'this certificate' }).waitFor(SOON)
  expect(await page.textContent('.certificate dd')).toMatch(/^\s*\d+ \w{3} \d{4}/)
  const serial = (await agent.status())?.certificates[0]?.serial ?? ''
  await page
    .locator('#events li', { hasText: new RegExp(`new certificate is installed.*${serial}`, 's') })
    .waitFor(SOON)
  expect(await barriers(page)).toEqual([])

  // What was opened stays open over an update.
  await page.locator('summary').click()
  await rm(sshd.certificatePath('ed25519'))
  await agent.waitFor('another certificate', async () => {
    const now = (await agent.status())?.certificates[0]?.serial ?? ''
    return now !== '' && now !== serial
  })
  const renewed = (await agent.status())?.certificates[0]?.serial ?? ''
  await page
    .locator('#events li', { hasText: new RegExp(`new certificate is installed.*${renewed}`, 's') })
    .waitFor(SOON)
  expect(await page.locator('details').getAttribute('open')).toBe('')

  await agent.stop()
  await page.locator('#stale', { hasText: 'does not answer' }).waitFor(SOON)
  await screenshot(page, 'stale')
  expect(await page.title()).toMatch(/^No answer · All well · /)
  expect(await page.textContent('#verdict strong')).toBe('All well')
  expect(await barriers(page)).toEqual([])

  await agent.start()
  await page.locator('#stale').waitFor({ state: 'hidden', ...LATER })
  await page.locator('#events li', { hasText: 'the health server listens' }).waitFor(SOON)
  expect(await page.title()).toMatch(/^All well · /)
  expect(await page.evaluate('window.stillHere')).toBe(true)
  expect(new Set(urls)).toEqual(new Set([page.url()]))
}, 120_000)
