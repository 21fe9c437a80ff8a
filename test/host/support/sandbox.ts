import type { Container } from './container.ts'

/** The units that the package confines; of the template one instance that never runs. */
export const CONFINED = [
  'hostcertd.service',
  'hostcertd-exchange@probe.service',
  'hostcertd-reload@probe.service',
  'hostcertd-enroll.service',
  'hostcertd-ephemeral.service',
  'hostcertd-textfile.service',
] as const
export type ConfinedUnit = (typeof CONFINED)[number]

const PROBE = 'hostcertd-probe.service'
const UNITS = '/etc/systemd/system'
/** Where every unit can read, and the programs that are tried too. */
const SCRIPT = '/srv/hostcertd-probe'

/**
 * Try lines of shell exactly as a unit's program runs: in the same unit, with another program in it. Not by entering the
 * namespaces of one that runs, for then neither its user nor its system call filter nor its lack of capabilities
 * would hold.
 *
 * @param lines by name
 * @returns the names of those that could be done, in order
 */
export async function tryInSandbox(
  container: Container,
  unit: ConfinedUnit,
  lines: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  await container.sh(`
    cp "$(systemctl show --value --property=FragmentPath ${unit})" ${UNITS}/${PROBE}
    mkdir -p ${UNITS}/${PROBE}.d`)
  await container.write(SCRIPT, scriptOf(lines), 0o755)
  await container.write(
    `${UNITS}/${PROBE}.d/probe.conf`,
    `[Unit]
ConditionPathExists=
[Service]
Type=oneshot
# Kept, so that it can be asked; and folders in /run must outlive the probe.
RemainAfterExit=yes
RuntimeDirectoryPreserve=yes
Restart=no
WatchdogSec=0
StandardInput=null
StandardOutput=journal
LogLevelMax=info
ExecStartPre=
ExecReload=
ExecStop=
ExecStart=
ExecStart=/bin/sh ${SCRIPT}
`,
  )
  try {
    await container.sh(`systemctl daemon-reload; systemctl start ${PROBE}`)
    const argv = ['journalctl', '--no-pager', '--quiet', '--output=cat']
    await container.run(['journalctl', '--sync'])
    const invocation = await container.run(['systemctl', 'show', '--value', '--property=InvocationID', PROBE])
    return doneIn(await container.run([...argv, `_SYSTEMD_INVOCATION_ID=${invocation.trim()}`]), lines)
  } finally {
    await container.sh(
      `systemctl stop ${PROBE}; rm -r ${SCRIPT} ${UNITS}/${PROBE} ${UNITS}/${PROBE}.d; systemctl daemon-reload`,
    )
  }
}

/** The same, as root outside of every sandbox: what cannot be done here either proves nothing. */
export async function tryAsRoot(
  container: Container,
  lines: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  return doneIn(await container.sh(scriptOf(lines)), lines)
}

function scriptOf(lines: Readonly<Record<string, string>>): string {
  const tries = Object.entries(lines).map(
    ([name, line]) =>
      `if (${line}) >/dev/null 2>&1; then echo 'done ${name}'; else echo 'refused ${name}'; fi\n`,
  )
  return `${tries.join('')}echo 'probe over'\n`
}

function doneIn(said: string, lines: Readonly<Record<string, string>>): readonly string[] {
  const answers = said.split('\n')
  if (!answers.includes('probe over')) throw new Error(`the probe did not run to its end: ${said}`)
  return Object.keys(lines).filter((name) => answers.includes(`done ${name}`))
}
