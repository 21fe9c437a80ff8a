#!/bin/sh
# An external fact for Facter 4 or later, hostcertd: the document of `hostcertd status --json`. Install it as
# /etc/facter/facts.d/hostcertd.sh, mode 0755, or in the folder facts.d of a Puppet module.
status=$(hostcertd status --json) || exit
printf '{"hostcertd": %s}\n' "$status"
