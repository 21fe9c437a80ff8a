import type { Container } from './container.ts'

/** What came of a try: whether it was done, and what the shell said. */
export interface SandboxAnswer {
  readonly done: boolean
  readonly said: string
}

/**
 * Run a line of shell exactly as the agent runs: the same unit, with another program in it. Not by entering the
 * agent's namespaces, for then neither its user nor its system call filter nor its lack of capabilities would hold.
 */
export async function tryInSandbox(container: Container, line: string): Promise<SandboxAnswer> {
  const unit = 'hostcertd-probe.service'
  const folder = '/etc/systemd/system'
  await container.sh(`
    cp "$(systemctl show --value --property=FragmentPath hostcertd.service)" ${folder}/${unit}
    mkdir -p ${folder}/${unit}.d`)
  const program = `{ ${line}; } 2>&1 && echo probe-done || echo probe-refused`
  await container.write(
    `${folder}/${unit}.d/probe.conf`,
    `[Service]
Type=oneshot
# Kept, so that it can be asked; and the agent's own folder in /run must outlive the probe.
RemainAfterExit=yes
RuntimeDirectoryPreserve=yes
Restart=no
WatchdogSec=0
ExecStartPre=
ExecReload=
ExecStart=
ExecStart=/bin/sh -c '${program}'
`,
  )
  try {
    await container.sh(`systemctl daemon-reload; systemctl start ${unit}`)
    const argv = ['journalctl', '--no-pager', '--quiet', '--output=cat']
    await container.run(['journalctl', '--sync'])
    const invocation = await container.run(['systemctl', 'show', '--value', '--property=InvocationID', unit])
    const said = await container.run([...argv, `_SYSTEMD_INVOCATION_ID=${invocation.trim()}`])
    if (!/^probe-(done|refused)$/m.test(said)) throw new Error(`the probe did not run: ${said}`)
    return { done: /^probe-done$/m.test(said), said }
  } finally {
    await container.sh(
      `systemctl stop ${unit}; rm -r ${folder}/${unit} ${folder}/${unit}.d; systemctl daemon-reload`,
    )
  }
}
