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
      --config | --host-key | --sshd-config | --timeout | -w | --warning | -c | --critical)
        if [[ ${COMP_WORDS[i + 1]} == = ]]; then ((i++)); fi
        ((i++))
        ;;
      -*) ;;
      *)
        case $verb in
          '' | config | metrics | help | 'help config' | 'help metrics') verb=${verb:+$verb }${COMP_WORDS[i]} ;;
        esac
        ;;
    esac
  done

  if [[ ! $ended ]]; then
    case $prev in
      --config | --host-key | --sshd-config)
        compopt -o default 2>/dev/null
        return
        ;;
      --timeout | -w | --warning | -c | --critical) return ;;
    esac
  fi

  case $verb in
    '')
      options='-V --version'
      words='run renew needs-renewal status check inspect wait doctor config metrics version help'
      ;;
    run) options='--config' ;;
    renew) options='--config --json --host-key --force --dry-run' ;;
    needs-renewal) options='--config --json --host-key' ;;
    status) options='--config --json' ;;
    check) options='--config --json -w --warning -c --critical' ;;
    inspect) options='--config --json' files=yes ;;
    wait) options='--config --timeout' ;;
    doctor) options='--config --json --issue --sshd-config' ;;
    config) words='validate' ;;
    'config validate') options='--config --json' ;;
    metrics) words='write' ;;
    'metrics write') options='--config' files=yes ;;
    version) options='--config --json' ;;
    help) words='run renew needs-renewal status check inspect wait doctor config metrics version' ;;
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
