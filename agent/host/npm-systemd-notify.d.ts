/** The part of the npm package `systemd-notify` 1.0.0 that is used here; it brings no types. */
declare module 'systemd-notify' {
  /**
   * Runs the program `systemd-notify` with our process id; rejects when it fails, with an Error or with what the
   * program printed.
   */
  function notify(message: { readonly ready?: true; readonly status?: string }): Promise<unknown>
  export = notify
}
