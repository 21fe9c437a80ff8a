/**
 * The page's only script: it fetches the page again and again and takes over what has changed, so that the page is
 * rendered, and escaped, in one place. The document is parsed by XMLHttpRequest, which runs nothing that is in it.
 * Without the script, or while hostcertd does not answer, the page stays as it is.
 */
export const SCRIPT = `'use strict';
(() => {
  const EVERY = 5000, SLOWEST = 60000, PATIENCE = 10000
  const root = document.documentElement
  const stale = document.getElementById('stale')
  const pace = document.getElementById('pace')
  let wait = EVERY, timer = 0, busy = false

  function fetchPage() {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest()
      request.open('GET', location.href)
      request.setRequestHeader('accept', 'text/html')
      request.responseType = 'document'
      request.timeout = PATIENCE
      request.onload = () => {
        const page = request.status === 200 ? request.response : null
        if (page !== null && page.getElementById('verdict') !== null) resolve(page)
        else reject(new Error('no status page'))
      }
      request.onerror = request.ontimeout = () => reject(new Error('no answer'))
      request.send()
    })
  }

  function isSelected(part) {
    const selection = getSelection()
    return selection !== null && !selection.isCollapsed && selection.containsNode(part, true)
  }

  // What was opened stays open, what had the focus keeps it.
  function exchange(part, next) {
    for (const { id } of part.querySelectorAll('details[open]')) next.querySelector('#' + CSS.escape(id))?.setAttribute('open', '')
    if (part.innerHTML === next.innerHTML) return
    const focused = part.contains(document.activeElement) ? document.activeElement.id : ''
    part.replaceChildren(...document.adoptNode(next).childNodes)
    if (focused !== '') document.getElementById(focused)?.focus({ preventScroll: true })
  }

  function takeOver(page) {
    if (page.documentElement.dataset.version !== root.dataset.version) return location.reload()
    if (document.title !== page.title) document.title = page.title
    const icon = document.querySelector('link[rel=icon]'), newIcon = page.querySelector('link[rel=icon]')
    if (icon.href !== newIcon.href) icon.href = newIcon.href
    for (const part of document.querySelectorAll('[data-live]')) {
      const next = page.getElementById(part.id)
      if (next === null || isSelected(part)) continue
      if (part.className !== next.className) part.className = next.className
      exchange(part, next)
    }
  }

  function answered() {
    wait = EVERY
    root.dataset.connection = 'live'
    stale.hidden = true
    stale.textContent = ''
  }

  function unanswered() {
    wait = Math.min(SLOWEST, wait * 2)
    root.dataset.connection = 'stale'
    if (!stale.hidden) return
    const last = document.querySelector('#as-of time').textContent
    document.title = 'No answer · ' + document.title
    stale.hidden = false
    stale.textContent = 'hostcertd does not answer. This is how things stood at ' + last + '.'
  }

  async function poll() {
    if (busy) return
    clearTimeout(timer)
    busy = true
    try {
      takeOver(await fetchPage())
      answered()
    } catch {
      unanswered()
    }
    busy = false
    schedule()
  }

  function schedule() {
    clearTimeout(timer)
    if (!document.hidden) timer = setTimeout(poll, wait)
  }

  root.dataset.connection = 'live'
  pace.textContent = 'This page updates itself every few seconds.'
  document.addEventListener('visibilitychange', () => document.hidden ? clearTimeout(timer) : poll())
  addEventListener('online', poll)
  schedule()
})()
`
