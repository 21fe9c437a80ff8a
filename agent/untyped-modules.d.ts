/** The parts of prom-client by themselves; its types are those of the whole. */
declare module 'prom-client/lib/counter.js' {
  import { Counter } from 'prom-client'
  export = Counter
}
declare module 'prom-client/lib/gauge.js' {
  import { Gauge } from 'prom-client'
  export = Gauge
}
declare module 'prom-client/lib/histogram.js' {
  import { Histogram } from 'prom-client'
  export = Histogram
}
declare module 'prom-client/lib/registry.js' {
  import { Registry } from 'prom-client'
  export = Registry
}

/** The part of the npm package `systemd-notify` 1.0.0 that is used here; it brings no types. */
declare module 'systemd-notify' {
  /**
   * Runs the program `systemd-notify` with our process id; rejects when it fails, with an Error or with what the
   * program printed.
   */
  function notify(message: { readonly ready?: true; readonly status?: string }): Promise<unknown>
  export = notify
}
