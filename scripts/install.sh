#!/bin/sh
# Installs microagent from the directory that this file is in; nothing is fetched.
#
# ./install.sh [PREFIX]     /usr/local for root, ~/.local for others
#
# What lies beside it is used too: kernel/*.deb becomes the guest kernel, images/* are loaded.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" = 0 ]; then prefix=${1:-/usr/local}; else prefix=${1:-$HOME/.local}; fi

mkdir -p "$prefix/bin"
# A program that runs is replaced and not written over.
cp "$here/bin/microagent" "$prefix/bin/.microagent.new"
chmod 0755 "$prefix/bin/.microagent.new"
mv "$prefix/bin/.microagent.new" "$prefix/bin/microagent"
cp -R "$here/share" "$prefix/"
echo "$prefix/bin/microagent"

microagent=$prefix/bin/microagent
if ls "$here"/kernel/*.deb >/dev/null 2>&1; then "$microagent" kernel install --deb "$here"/kernel/*.deb; fi
for image in "$here"/images/*; do
	if [ -e "$image" ]; then "$microagent" load --input "$image"; fi
done

case :$PATH: in
*:"$prefix/bin":*) ;;
*) echo "put it on your path: export PATH=\"$prefix/bin:\$PATH\"" >&2 ;;
esac
"$microagent" doctor || echo "see above for what is missing; the program is installed" >&2
