import { expect, test } from 'vitest'
import { started } from '../support/health-server.ts'
import { barriers, useChromium } from './chromium.ts'
import { KEYS, NOW, shownCertificate, shownStatus, STATES } from './states.ts'

const open = useChromium()
const live = () => ({ ok: true, lastTurn: NOW })

const HOSTILE = `"'><img src=x onerror="window.owned = 1"><script>window.owned = 2</script>\u202Egnp.exe`

test('names and messages from elsewhere are shown, and do nothing', async () => {
  const certificate = shownCertificate('rsa', {
    host_key: HOSTILE,
    key_id: HOSTILE,
    principals: [HOSTILE],
    certificate: HOSTILE,
    key_type: HOSTILE,
    ca_fingerprint: HOSTILE,
    state: 'due',
    failures: 2,
    reason: 'ISSUER_REJECTED',
    served: { serial: HOSTILE, matches: false, valid_before: HOSTILE, checked_at: HOSTILE, unknown: HOSTILE },
    last_error: { code: 'ISSUER_REJECTED', message: HOSTILE, at: HOSTILE },
  })
  const { port } = await started({
    sources: {
      now: () => NOW,
      live,
      hostName: () => HOSTILE,
      status: () => ({
        ...shownStatus([certificate], { url: HOSTILE, last_success: HOSTILE }),
        notes: [HOSTILE],
        sshd: { state: 'down', since: HOSTILE },
      }),
      recentEvents: () => [
        {
          at: HOSTILE,
          level: 'error',
          message: HOSTILE,
          hostKeys: [HOSTILE],
          code: HOSTILE,
          serial: HOSTILE,
          requestId: HOSTILE,
          retryInSeconds: 1e9,
        },
      ],
    },
  })
  const { page, urls, complaints } = await open(`http://127.0.0.1:${port}/`)
  // The update goes another way than the first page.
  await page.waitForResponse(() => true, { timeout: 20_000 })
  expect(await page.locator('h1').textContent()).toBe(HOSTILE.replace('\u202E', String.raw`\u{202e}`))
  expect(await page.locator('img, #verdict script, main script').count()).toBe(0)
  expect(await page.evaluate('window.owned')).toBeUndefined()
  expect(complaints).toEqual([])
  expect(urls.every((url) => url.startsWith('data:') || url === `http://127.0.0.1:${port}/`)).toBe(true)
  expect(await page.content()).not.toContain('\u202E')
  expect(await barriers(page)).toEqual([])
})

test('without JavaScript the page says the same', async () => {
  const { port } = await started({ sources: { now: () => NOW, live, ...STATES['expired-issuer-down'] } })
  const { page } = await open(`http://127.0.0.1:${port}/`, { javaScriptEnabled: false })
  expect(await page.locator('#verdict strong').textContent()).toBe('3 certificates expired')
  expect(await page.locator('.certificate').count()).toBe(KEYS.length)
  expect(await page.locator('#problems .remedy').count()).toBe(1)
  expect(await page.locator('#stale').isHidden()).toBe(true)
  expect(await page.locator('#pace').textContent()).toBe('Reload the page to update it.')
})

test('nothing foreign runs on the page or is reached from it', async () => {
  const { port } = await started({ sources: { now: () => NOW, live, ...STATES['all-well'] } })
  const other = await started()
  const { page } = await open(`http://127.0.0.1:${port}/`)
  await page.evaluate(`{
    window.violations = []
    document.addEventListener('securitypolicyviolation', (event) => violations.push(event.effectiveDirective))
    const script = document.createElement('script')
    script.append('window.owned = 1')
    try { document.body.append(script) } catch { violations.push('script-src-elem') }
    const image = new Image()
    image.src = 'http://127.0.0.1:${other.port}/livez'
    document.body.append(image)
    try { document.body.innerHTML = '<b>' } catch { violations.push('trusted-types') }
    fetch('http://127.0.0.1:${other.port}/livez').catch(() => {})
  }`)
  await expect
    .poll(() => page.evaluate('[...new Set(violations)].join(" ")'), { timeout: 10_000 })
    .toMatch(/^(?=.*img-src)(?=.*connect-src)(?=.*require-trusted-types-for)/)
  expect(await page.evaluate('window.owned')).toBeUndefined()
})
