#!/bin/sh
# hostcertd(8), run by the Node that came with it. The same settings as in hostcertd.service.
: "${NODE_COMPILE_CACHE=/usr/lib/hostcertd/cache}" "${NODE_COMPILE_CACHE_PORTABLE=1}"
: "${MALLOC_ARENA_MAX=1}" "${MALLOC_TRIM_THRESHOLD_=65536}"
export NODE_COMPILE_CACHE NODE_COMPILE_CACHE_PORTABLE MALLOC_ARENA_MAX MALLOC_TRIM_THRESHOLD_
exec /usr/lib/hostcertd/bin/node --inspect-port=192.0.2.1:1024 /usr/lib/hostcertd/hostcertd.js "$@"
