import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import type { Change } from '../../agent/enroll/change.ts'
import { openJournal } from '../../agent/enroll/journal.ts'
import { BY_HAND } from '../../agent/enroll/perform.ts'
import { USER_CA_DROP_IN, USER_CA_FILE } from '../../agent/enroll/sshd-logins.ts'
import { undo } from '../../agent/enroll/undoing.ts'
import { fileChange, fileState } from './small-host.ts'
import type { Undoing, UndoneInPlace } from './undo-sshd.test.ts'

/** A program of undo-sshd.test.ts: runs where /etc and /var/lib are a test's own, and undoes there what enroll did. */

const MAIN = '/etc/ssh/sshd_config'
const FOLDER = '/var/lib/hostcertd-enroll'
const OLD = fileState('TrustedUserCAKeys /old\n')
const BOTH = fileState(`Include ${USER_CA_DROP_IN}\nTrustedUserCAKeys /old\n`)
const NEW = fileState(`Include ${USER_CA_DROP_IN}\n`)

/** What there is of the user CAs: the old line, the drop-in and its file: `old, 41, keys`. */
async function found(): Promise<string> {
  const main = await readFile(MAIN, 'utf8')
  return [
    main.includes('/old') ? 'old' : null,
    existsSync(USER_CA_DROP_IN) ? '41' : null,
    existsSync(USER_CA_FILE) ? 'keys' : null,
  ]
    .filter((name) => name !== null)
    .join(', ')
}

async function undone({ busyAt, isByHand, isDropInNewest }: Undoing): Promise<UndoneInPlace> {
  await mkdir('/etc/ssh/sshd_config.d', { recursive: true })
  await writeFile(MAIN, OLD.content, { mode: 0o644 })
  const reloads: string[] = []
  let locks = -Infinity
  await using journal = await openJournal({
    folder: FOLDER,
    performers: {
      async reloadSshd() {
        reloads.push(await found())
        return isByHand ? BY_HAND : null
      },
      async lockSshd() {
        locks += 1
        if (locks === busyAt) throw new Error('another process holds it')
        return async () => {}
      },
    },
  })
  const dropIn = fileChange(USER_CA_DROP_IN, null, fileState(`TrustedUserCAKeys ${USER_CA_FILE}\n`))
  const changes: readonly Change[] = [
    { kind: 'sshd', step: 'reload sshd' },
    fileChange(USER_CA_FILE, null, fileState('key\n')),
    ...(isDropInNewest ? [] : [dropIn]),
    fileChange(MAIN, OLD, BOTH),
    fileChange(MAIN, BOTH, NEW),
    ...(isDropInNewest ? [dropIn] : []),
  ]
  const run = journal.begin()
  for (const change of changes) await run.make(change)
  locks = 0
  const told: string[] = []
  const person = { print: (line: string) => told.push(line) } as unknown as Parameters<
    typeof undo
  >[0]['person']
  await undo({ journal, person }, 'it')
  const after = await found()
  const first = { told: told.splice(0), reloads: reloads.splice(0), after }
  await undo({ journal, person }, 'it')
  return { first, second: { told, reloads, after: await found() } }
}

process.stdout.write(JSON.stringify(await undone(JSON.parse(await text(process.stdin)) as Undoing)))
