# Completion for hostcertd(8). Made by packaging/completions/generate.ts: changes are lost.

_hostcertd() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb='' ended='' offers='' word i
  COMPREPLY=()
  # readline takes --option=VALUE apart at the =.
  if [[ $cur == = ]]; then
    cur=''
  elif [[ $prev == = ]]; then
    prev=${COMP_WORDS[COMP_CWORD - 2]}
  fi

  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case $verb:$word in
      *:--) ended=yes ;;
      'run:--config' | \
        'renew:--config' | \
        'renew:--host-key' | \
        'needs-renewal:--config' | \
        'needs-renewal:--host-key' | \
        'status:--config' | \
        'check:--config' | \
        'check:-w' | \
        'check:--warning' | \
        'check:-c' | \
        'check:--critical' | \
        'inspect:--config' | \
        'wait:--config' | \
        'wait:--timeout' | \
        'doctor:--config' | \
        'doctor:--sshd-config' | \
        'config validate:--config' | \
        'metrics write:--config' | \
        'version:--config')
        if [[ ${COMP_WORDS[i + 1]} == = ]]; then ((i++)); fi
        ((i++))
        ;;
      *:-*) ;;
      *)
        case "${verb:+$verb }$word" in
          'run' | \
            'renew' | \
            'needs-renewal' | \
            'status' | \
            'check' | \
            'inspect' | \
            'wait' | \
            'doctor' | \
            'config' | \
            'config validate' | \
            'metrics' | \
            'metrics write' | \
            'version' | \
            'help' | \
            'help run' | \
            'help renew' | \
            'help needs-renewal' | \
            'help status' | \
            'help check' | \
            'help inspect' | \
            'help wait' | \
            'help doctor' | \
            'help config' | \
            'help config validate' | \
            'help metrics' | \
            'help metrics write' | \
            'help version')
            verb=${verb:+$verb }$word
            ;;
        esac
        ;;
    esac
  done

  if [[ ! $ended ]]; then
    case $verb:$prev in
      'run:--config' | \
        'renew:--config' | \
        'renew:--host-key' | \
        'needs-renewal:--config' | \
        'needs-renewal:--host-key' | \
        'status:--config' | \
        'check:--config' | \
        'inspect:--config' | \
        'wait:--config' | \
        'doctor:--config' | \
        'doctor:--sshd-config' | \
        'config validate:--config' | \
        'metrics write:--config' | \
        'version:--config')
        compopt -o default 2>/dev/null
        return
        ;;
      'check:-w' | \
        'check:--warning' | \
        'check:-c' | \
        'check:--critical' | \
        'wait:--timeout')
        return
        ;;
    esac
  fi

  case $verb:$ended:$cur in
    ''::-*) offers='-V --version -h --help' ;;
    '':*) offers='run renew needs-renewal status check inspect wait doctor config metrics version help' ;;
    'run'::*) offers='--config -h --help' ;;
    'renew'::*) offers='--config --force --dry-run --host-key --json -h --help' ;;
    'needs-renewal'::*) offers='--config --host-key --json -h --help' ;;
    'status'::*) offers='--config --json -h --help' ;;
    'check'::*) offers='--config -w --warning -c --critical --json -h --help' ;;
    'inspect'::-*) offers='--config --json -h --help' ;;
    'inspect':*)
      compopt -o default 2>/dev/null
      return
      ;;
    'wait'::*) offers='--config --timeout -h --help' ;;
    'doctor'::*) offers='--config --issue --sshd-config --json -h --help' ;;
    'config'::-*) offers='-h --help' ;;
    'config':*) offers='validate' ;;
    'config validate'::*) offers='--config --json -h --help' ;;
    'metrics'::-*) offers='-h --help' ;;
    'metrics':*) offers='write' ;;
    'metrics write'::-*) offers='--config -h --help' ;;
    'metrics write':*)
      compopt -o default 2>/dev/null
      return
      ;;
    'version'::*) offers='--config --json -h --help' ;;
    'help'::-*) offers='-h --help' ;;
    'help':*) offers='run renew needs-renewal status check inspect wait doctor config metrics version' ;;
    'help run':*) ;;
    'help renew':*) ;;
    'help needs-renewal':*) ;;
    'help status':*) ;;
    'help check':*) ;;
    'help inspect':*) ;;
    'help wait':*) ;;
    'help doctor':*) ;;
    'help config'::-*) offers='' ;;
    'help config':*) offers='validate' ;;
    'help config validate':*) ;;
    'help metrics'::-*) offers='' ;;
    'help metrics':*) offers='write' ;;
    'help metrics write':*) ;;
    'help version':*) ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$offers" -- "$cur")
}

complete -F _hostcertd hostcertd
