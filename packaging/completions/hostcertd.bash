# Completion for hostcertd(8), for bash 4.0 and later; does not need the package bash-completion.
# test/cli/completions.test.ts compares it with the command line.

_hostcertd() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
  local verb='' ended='' options='' words='' files='' i
  COMPREPLY=()
  # readline splits --option=VALUE at the =.
  if [[ $cur == = ]]; then
    cur=''
  elif [[ $prev == = ]]; then
    prev=${COMP_WORDS[COMP_CWORD - 2]}
  fi

  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --) ended=yes ;;
      --config | --host-key | --sshd-config | --admin-token-file | --ca-file | --client-id-file | --identity-id-file | --username-file | --client-secret-file | \
      --token-file | --access-key-id-file | --secret-access-key-file | --session-token-file | --key-file | \
      --jwt-file | --password-file | --certificate-file | --access-key-secret-file | --timeout | -w | \
      --warning | -c | --critical | --url | --host-id | --project | --hostname | --ttl | --alias | \
      --ca-fingerprint | --user-ca-fingerprint | --wait | --jitter | --organization | --client-id | --identity-id | --region | --resource | \
      --jwt-command | --issuer | --subject | --audience | --username | --login-url | --user | --tenancy | \
      --fingerprint | --access-key-id | --auth | --on-copy | --format | --hosts)
        if [[ ${COMP_WORDS[i + 1]} == = ]]; then ((i++)); fi
        ((i++))
        ;;
      -*) ;;
      *)
        case $verb in
          '' | ca | config | metrics | help | 'help ca' | 'help config' | 'help metrics') verb=${verb:+$verb }${COMP_WORDS[i]} ;;
        esac
        ;;
    esac
  done

  if [[ ! $ended ]]; then
    case $prev in
      --config | --host-key | --sshd-config | --admin-token-file | --ca-file | --client-id-file | --identity-id-file | --username-file | --client-secret-file | \
      --token-file | --access-key-id-file | --secret-access-key-file | --session-token-file | --key-file | \
      --jwt-file | --password-file | --certificate-file | --access-key-secret-file)
        compopt -o default 2>/dev/null
        return
        ;;
      --timeout | -w | --warning | -c | --critical | --url | --host-id | --project | --hostname | --ttl | \
      --alias | --ca-fingerprint | --user-ca-fingerprint | --wait | --jitter | --organization | --client-id | --identity-id | --region | \
      --resource | --jwt-command | --issuer | --subject | --audience | --username | --login-url | --user | \
      --tenancy | --fingerprint | --access-key-id | --hosts) return ;;
      --auth) words='universal-auth token kubernetes aws gcp azure oidc jwt spiffe ldap tls-cert oci alicloud' ;;
      --on-copy) words='warn stop' ;;
      --format) words='known-hosts ssh-config known-hosts-command ansible json' ;;
    esac
  fi

  if [[ $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    return
  fi

  case $verb in
    '')
      options='-V --version'
      words='run enroll unenroll renew needs-renewal status check inspect wait doctor ca krl config metrics version help'
      ;;
    run) options='--config' ;;
    enroll)
      options='--config --yes --dry-run --check --json --url --host-id --auth --admin-token-file --ca-file --project
        --from-certificate --hostname --register --ttl --alias --ca-fingerprint --user-ca --user-ca-fingerprint --take-over --on-copy --wait
        --template --shared-secret --ephemeral --jitter
        --organization --client-id --client-id-file --client-secret-file --token-file --identity-id --identity-id-file --region
        --access-key-id-file --secret-access-key-file --session-token-file --key-file --resource --jwt-file
        --jwt-command --issuer --subject --audience --username --username-file --password-file --certificate-file --login-url
        --user --tenancy --fingerprint --access-key-id --access-key-secret-file'
      ;;
    unenroll)
      options='--config --yes --dry-run --check --json --url --host-id --auth --admin-token-file --ca-file
        --delete-host --keep-user-ca
        --organization --client-id --client-id-file --client-secret-file --token-file --identity-id --identity-id-file --region
        --access-key-id-file --secret-access-key-file --session-token-file --key-file --resource --jwt-file
        --jwt-command --issuer --subject --audience --username --username-file --password-file --certificate-file --login-url
        --user --tenancy --fingerprint --access-key-id --access-key-secret-file'
      ;;
    renew) options='--config --json --host-key --force --dry-run' ;;
    needs-renewal) options='--config --json --host-key' ;;
    status) options='--config --json' ;;
    check) options='--config --json -w --warning -c --critical' ;;
    inspect) options='--config --json' files=yes ;;
    wait) options='--config --timeout' ;;
    doctor) options='--config --json --issue --sshd-config' ;;
    ca) words='show refresh' ;;
    'ca show') options='--config --json --format --hosts' ;;
    'ca refresh') options='--config --now' ;;
    krl) options='--config --host-id' files=yes ;;
    config) words='validate' ;;
    'config validate') options='--config --json' ;;
    metrics) words='write' ;;
    'metrics write') options='--config' files=yes ;;
    version) options='--config --json' ;;
    help) words='run enroll unenroll renew needs-renewal status check inspect wait doctor ca krl config metrics version' ;;
    'help ca') words='show refresh' ;;
    'help config') words='validate' ;;
    'help metrics') words='write' ;;
  esac
  case $verb in
    'help '*) ;;
    *) options+=' -h --help' ;;
  esac

  if [[ ! $ended && $cur == -* ]]; then
    words=$options
  elif [[ $files ]]; then
    # readline completes file names if nothing else is offered.
    compopt -o default 2>/dev/null
    return
  elif [[ ! $ended && ! $words ]]; then
    words=$options
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _hostcertd hostcertd
