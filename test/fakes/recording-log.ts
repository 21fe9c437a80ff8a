import type { Log, LogFields } from '../../agent/renewal/ports.ts'

export interface RecordedLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly fields: LogFields
}

/** A log that keeps its lines in memory, in order, debug lines too. */
export class RecordingLog implements Log {
  readonly lines: RecordedLine[] = []

  debug(fields: LogFields, message: string): void {
    this.lines.push({ level: 'debug', message, fields })
  }

  info(fields: LogFields, message: string): void {
    this.lines.push({ level: 'info', message, fields })
  }

  warn(fields: LogFields, message: string): void {
    this.lines.push({ level: 'warn', message, fields })
  }

  error(fields: LogFields, message: string): void {
    this.lines.push({ level: 'error', message, fields })
  }

  /** The messages of one level. */
  messages(level: RecordedLine['level']): string[] {
    return this.lines.filter((line) => line.level === level).map(({ message }) => message)
  }
}
