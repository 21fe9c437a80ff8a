/** The page's only style sheet. Colours keep a contrast of 4.5:1 for text in both schemes. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #f4f6f8; --card: #fff; --line: #dde2e7; --ink: #1c242c; --soft: #56616d; --code: #eef1f4;
  --good: #1d7a4c; --good-tint: #e3f3ea; --good-fill: #63b58a;
  --busy: #225f9e; --busy-tint: #e4eefa; --busy-fill: #6ea5de;
  --warn: #8a5500; --warn-tint: #fbf0d9; --warn-fill: #dfa63f;
  --bad: #b02a20; --bad-tint: #fbe7e5; --bad-fill: #dd7268;
  --idle: #56616d; --idle-tint: #e9edf1; --idle-fill: #a9b3bd;
  --track: #e3e8ec; --hatch: #cfd6dc;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #11161b; --card: #1a2128; --line: #2c353e; --ink: #e6ebf0; --soft: #a0acb8; --code: #242d36;
    --good: #6bcf9b; --good-tint: #163226; --good-fill: #3f9a6c;
    --busy: #82b8f0; --busy-tint: #17304a; --busy-fill: #4582bf;
    --warn: #e8b95c; --warn-tint: #3a2d12; --warn-fill: #b98628;
    --bad: #f4958c; --bad-tint: #431f1c; --bad-fill: #c4554b;
    --idle: #a0acb8; --idle-tint: #252e37; --idle-fill: #5d6975;
    --track: #2a333c; --hatch: #3c4853;
  }
}
* { box-sizing: border-box; margin: 0 }
[hidden] { display: none !important }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100% }
body {
  background: var(--ground); color: var(--ink); padding: 0 1rem 2rem;
  font: 1rem/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif;
}
.page-header, main, footer { max-width: 66rem; margin: 0 auto }
h1, h2, h3 { line-height: 1.25; font-weight: 650; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; letter-spacing: -.01em }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .7rem }
h3 { font-size: 1rem }
code, .name { font-family: ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: .88em }
.name { overflow-wrap: anywhere }
code { background: var(--code); border-radius: 4px; padding: .1em .35em; overflow-wrap: anywhere }
/* For screen readers only. */
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
a { color: var(--busy); text-underline-offset: .15em }
:focus-visible { outline: 2px solid var(--busy); outline-offset: 2px; border-radius: 3px }
.quiet, .away, caption { color: var(--soft); font-size: .875rem }
.away { display: block; font-size: .8125rem }
.tone-good { --tone: var(--good); --tint: var(--good-tint); --fill: var(--good-fill) }
.tone-busy { --tone: var(--busy); --tint: var(--busy-tint); --fill: var(--busy-fill) }
.tone-warn { --tone: var(--warn); --tint: var(--warn-tint); --fill: var(--warn-fill) }
.tone-bad { --tone: var(--bad); --tint: var(--bad-tint); --fill: var(--bad-fill) }
.tone-idle { --tone: var(--idle); --tint: var(--idle-tint); --fill: var(--idle-fill) }
.sign { width: 1.15em; height: 1.15em; flex: none }
.sign circle { fill: var(--tone) }
.sign path { fill: none; stroke: var(--card); stroke-width: 2.2; stroke-linecap: round; stroke-linejoin: round }

.page-header { display: flex; flex-wrap: wrap; gap: .2rem 1rem; align-items: end; justify-content: space-between; padding: 1.6rem 0 1rem }
.brand { color: var(--soft); font-size: .875rem; letter-spacing: .02em }
#as-of { color: var(--soft); font-size: .875rem; font-variant-numeric: tabular-nums }
#as-of::before {
  content: ''; display: inline-block; width: .55em; height: .55em; margin-right: .5em; border-radius: 50%;
  background: var(--idle-fill);
}
[data-connection=live] #as-of::before { background: var(--good-fill); animation: beat 2.5s ease-in-out infinite }
[data-connection=stale] #as-of::before { background: var(--warn-fill) }
[data-connection=stale] .verdict { --tone: var(--idle); --tint: var(--idle-tint) }
[data-connection=stale] :is(.track, .label) { filter: grayscale(1) }
@keyframes beat { 50% { opacity: .35 } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important } }

#stale {
  position: sticky; top: 0; z-index: 1; max-width: 66rem; margin: 0 auto .8rem; padding: .7rem 1rem;
  border: 1px solid var(--warn-fill); border-radius: 10px; background: var(--warn-tint); color: var(--ink); font-weight: 600;
}
.verdict { display: flex; gap: .9rem; padding: 1.1rem 1.2rem; border-radius: 14px; background: var(--tint) }
.verdict .sign { width: 2.2rem; height: 2.2rem; margin-top: .1rem }
.verdict .sign path { stroke: var(--tint) }
.verdict strong { display: block; font-size: 1.3rem; line-height: 1.3; font-weight: 650; color: var(--tone) }
.verdict code { background: none; padding: 0; font-weight: 600 }

.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.2rem }
.problem + .problem { margin-top: .8rem }
.cards { display: grid; gap: .8rem }
.certificate header { display: flex; flex-wrap: wrap; gap: .15rem .8rem; align-items: center; justify-content: space-between; margin-bottom: .6rem }
.certificate header .quiet { width: 100% }
.pill {
  display: inline-flex; gap: .4em; align-items: center; padding: .15em .7em .15em .4em; border-radius: 99px;
  background: var(--tint); color: var(--tone); font-size: .875rem; font-weight: 600;
}
.pill .sign path { stroke: var(--tint) }
.mark { display: inline-flex; gap: .4em; align-items: start }
.mark .sign { margin-top: .2em }
dt { color: var(--soft); font-size: .8125rem }
dd { overflow-wrap: anywhere; font-variant-numeric: tabular-nums }

.track { height: 14px; border-radius: 7px; overflow: hidden; background: var(--track) }
.track svg { display: block }
.none .track { background: repeating-linear-gradient(-45deg, var(--track) 0 6px, var(--hatch) 6px 12px) }
.endless .track { background: var(--tint) }
.window { fill: var(--hatch) }
.spent { fill: var(--fill) }
.now { fill: var(--tone) }
.label { display: block; overflow: visible }
.label text { fill: var(--soft); font-size: .8125rem }
.label.above text { fill: var(--tone); font-weight: 650 }
.label line { stroke: var(--soft); stroke-width: 1.5 }
.dates { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: .6rem; margin-top: .5rem }
.dates div:last-child:not(:first-child) { text-align: right }
.dates div:nth-child(2):not(:last-child) { text-align: center }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr)); gap: .6rem 1.2rem }
.certificate .facts { margin-top: .9rem; padding-top: .8rem; border-top: 1px solid var(--line) }

.problem { border-left: 4px solid var(--fill) }
.problem .about { color: var(--soft); font-weight: 400; font-size: .875rem }
.problem h3 { margin-bottom: .5rem }
.problem .message { margin-bottom: .7rem; overflow-wrap: anywhere }
.remedy { display: grid; gap: .5rem }
.remedy + .quiet { margin-top: .6rem }

.more { margin-top: .7rem }
.more summary { color: var(--busy); font-size: .875rem; cursor: pointer; width: max-content; padding: .1rem .2rem .1rem 0 }
.certificate .more .facts { border: 0; padding: 0; margin-top: .5rem }
.certificate p + .life { margin-top: .6rem }
table { width: 100%; border-collapse: collapse }
caption { text-align: left; padding-bottom: .4rem }
th, td { text-align: left; vertical-align: top; padding: .5rem .8rem .5rem 0; font-weight: 400; font-variant-numeric: tabular-nums }
th:last-child, td:last-child { padding-right: 0 }
tbody tr:last-child > * { padding-bottom: 0 }
thead th { color: var(--soft); font-size: .8125rem; padding-top: 0 }
tbody tr { border-top: 1px solid var(--line) }
td .name { display: block }

ul { list-style: none; padding: 0; overflow-wrap: anywhere }
.unanswered { margin-top: .7rem; padding-top: .6rem; border-top: 1px solid var(--line) }
.notes { margin-top: .8rem; border-left: 4px solid var(--fill) }
.notes ul { margin-top: .4rem }
li + li { margin-top: .4rem }
.events { list-style: none; padding-top: .3rem; padding-bottom: .3rem }
.events li { display: grid; grid-template-columns: 7rem 1fr; gap: 0 1rem; padding: .6rem 0 }
.events li + li { border-top: 1px solid var(--line) }
.events time { color: var(--soft); font-size: .875rem; font-variant-numeric: tabular-nums }
.events p { overflow-wrap: anywhere }
.level { color: var(--tone); font-weight: 650 }
footer { margin-top: 2rem; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; color: var(--soft); font-size: .875rem }
@media (max-width: 40rem) {
  .card { padding: .9rem 1rem }
  .dates { font-size: .9rem; gap: .4rem }
  .dates .away > span { display: block }
  .dates .away > .dot { display: none }
  .events li { grid-template-columns: 1fr }
  .events .away { display: inline }
  table, caption, tbody, tr, tbody th, td { display: block }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  tr { padding: .7rem 0 }
  tr:last-child { padding-bottom: 0 }
  th, td { padding: .1rem 0 }
  td .name { padding-left: 1.5rem }
  .asked { padding-left: 1.5rem; color: var(--soft); font-size: .875rem }
  .asked::before { content: 'seen ' / '' }
  .unknown { display: none }
  .asked .away { display: inline; margin-left: .5em }
}
`

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
