/** The CPU time of this process since an instant: unlike the time of day, a busy machine hardly changes it. */
export function cpuMillisecondsSince(began: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(began)
  return (user + system) / 1000
}
