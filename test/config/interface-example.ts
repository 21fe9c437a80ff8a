/** The configuration of the program's interface, word for word. */
export const INTERFACE_EXAMPLE = `issuer:
  url: https://us.infisical.com        # required; or http://, for a loopback address only
  ssh_host_id: 8c1efcfc-434c-4c43-80e3-53c9eae6672a   # required
  ca_file: /etc/hostcertd/tls-ca.pem   # example; TLS roots to trust besides the system's store
  timeout: 30s                         # one whole exchange
  # command: [/usr/local/bin/sign-host-key]   # instead of url, ssh_host_id and auth: see *Another CA*
auth:
  method: universal-auth               # universal-auth | token | kubernetes | aws | gcp | azure | oidc | jwt | spiffe | ldap | tls-cert | oci | alicloud
  client_id: 41ea2756-88ac-43bf-8929-42b71ec7742e     # example; or client_id_file
  client_secret_file: credential:client-secret
  # the settings of each method: see *Logins*
host_keys: /etc/ssh/ssh_host_*_key.pub # a pattern or a list; public halves only
certificates:
  directory: /var/lib/hostcertd/certs  # ssh_host_ed25519_key.pub → ssh_host_ed25519_key-cert.pub here; on a packaged host the helper copies from here, else sshd reads here
renewal:
  window: 33%        # share of the lifetime left, or a duration left (at most half the lifetime), at which renewal opens
  jitter: 50%        # share of that window over which hosts spread, fixed per host and certificate
  tick: "* * * * *"  # cron expression, seconds allowed: how often everything is looked at; gaps over 5 minutes are CONFIG_INVALID
  maintenance: "* * * * *"  # cron expression: the minutes in which a routine renewal may start; what is absent, rotated, invalid, overdue or expired does not wait for it
verify:
  host_ca_file: /etc/hostcertd/host-ca.pub  # pinned CA keys, one a line; see below for none
  principals: [web1.example.com]       # example; all of these must be in the certificate. Default: any, but never none
sshd:
  address: auto                        # where to ask what is served: what the helper says sshd listens on, else 127.0.0.1:22, [::1]:22; or host:port; or none
  reload: auto                         # auto: unless the new certificate is served already | always | never
  reload_command: [/usr/local/sbin/reload-sshd]   # example; instead of the packaged helper
health:
  listen: 127.0.0.1:9847               # or unix:/run/hostcertd/health.sock, or none
  hosts: []                            # further names by which browsers may ask for / and /status
log:
  level: info                          # trace … fatal
  format: auto                         # auto: journal lines under journald, pretty on a terminal, else json
state_directory: /var/lib/hostcertd
enrollment:
  on_copy: warn                        # warn | stop: what a machine does that was copied after it was enrolled
user_ca:                               # root's timer, not the daemon; see *CAs*
  install: false
  overlap: 14d
  fingerprints: []                     # pins
  revoked: []
`

/** The table of its chapter "Logins", word for word: what each method takes besides `method`, with the defaults. */
export const INTERFACE_LOGINS = `| universal-auth | \`client_id\` or \`client_id_file\`, \`client_secret_file\` |
| token | \`token_file\` |
| kubernetes | \`token_file\` (\`/var/run/secrets/kubernetes.io/serviceaccount/token\`) |
| aws | \`region\` (from the platform); proof from container variables (URLs only to loopback, 169.254.170.2, 169.254.170.23, fd00:ec2::23), the instance, or \`access_key_id_file\`, \`secret_access_key_file\` and, if temporary, \`session_token_file\` |
| gcp | \`key_file\` (none: the metadata service) |
| azure | \`resource\` (\`https://management.azure.com/\`), \`client_id\` (none) |
| oidc, spiffe | \`jwt_file\` or \`jwt_command\` |
| jwt | \`jwt_file\`, \`jwt_command\`, or \`key_file\` with \`issuer\`, \`subject\`, \`audience\`: the host signs its own (RS256, ES256), five minutes long. That proves possession of the key and nothing about the claims: one identity for each host, never its claims in a template (docs and doctor say so) |
| ldap | \`username\` or \`username_file\`, \`password_file\` |
| tls-cert | \`certificate_file\`, \`key_file\`, \`login_url\` (\`issuer.url\`, on Infisical's cloud with port 8443) |
| oci | \`user\`, \`tenancy\`, \`fingerprint\`, \`region\`, \`key_file\` |
| alicloud | \`access_key_id\` or \`access_key_id_file\`, \`access_key_secret_file\` |
`
