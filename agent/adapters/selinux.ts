import { readBoundedFile } from '../system/bounded-file.ts'
import { runProgram } from '../system/run-program.ts'

export interface SelinuxOptions {
  /** `1` in it: enforcing, `0`: only logging. Missing: no SELinux. */
  readonly enforceFile?: string
  /** stat(1) of coreutils; looked up in PATH. */
  readonly program?: string
}

export interface Selinux {
  /** Null where there is none. */
  mode(): Promise<'enforcing' | 'permissive' | null>
  /** The type in a file's label, `etc_t`; null when it has none or is not there. */
  typeOf(path: string, signal: AbortSignal): Promise<string | null>
}

const ENFORCE_FILE = '/sys/fs/selinux/enforce'
const TIMEOUT_MILLISECONDS = 5_000

/** What SELinux says of files. Node cannot read labels, stat(1) can. */
export function createSelinux(options: SelinuxOptions = {}): Selinux {
  const { enforceFile = ENFORCE_FILE, program = 'stat' } = options
  return {
    mode: async () => {
      try {
        return (await readBoundedFile(enforceFile, 16)).trim() === '1' ? 'enforcing' : 'permissive'
      } catch {
        return null
      }
    },
    typeOf: async (path, signal) => {
      const argv = [program, '--dereference', '--format=%C', '--', path]
      const { status, stdout } = await runProgram(argv, { timeoutMilliseconds: TIMEOUT_MILLISECONDS, signal })
      return status === 0 ? (stdout.trim().split(':')[2] ?? null) : null
    },
  }
}
