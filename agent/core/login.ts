/** Written in the configuration, or in a file that is read when it is needed. */
export type CredentialSource = { readonly value: string } | { readonly file: string }

/** How this host logs in at the issuer. Paths are absolute; `credential:NAME` is resolved already. */
export type Login =
  | {
      readonly method: 'universal-auth'
      readonly clientId: CredentialSource
      readonly clientSecretFile: string
    }
  /** A token that an administrator made; there is no login. */
  | { readonly method: 'token'; readonly tokenFile: string }
