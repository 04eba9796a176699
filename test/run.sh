#!/bin/sh
# Everything that must hold, from a clean clone: `npm test`, or `test/run.sh [TEST-FILE]...` for some tests only.
#
# 1. Debian packages of test/packages.txt (root only), 2. npm's packages, 3. types, lint, format, 4. tests.
# Exit status 0 only if all of it is right.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$(pwd -P)
modules=$root/node_modules
user=$(id -u)

is_installed() {
  [ -f "$modules/.package-lock.json" ] && [ -d "$modules/oxlint" ] || return 1
  [ ! "$root/package-lock.json" -nt "$modules/.package-lock.json" ] ||
    cmp -s "$root/package-lock.json" "$modules/.ebb-package-lock.json"
}

. "$root/setup/install.sh"

missing_debian_packages() {
  sed -e 's/#.*//' -e 's/[[:space:]].*//' -e '/^$/d' "$root/test/packages.txt" |
    while read -r package; do
      status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)
      [ "$status" = installed ] || echo "$package"
    done
}

# Exit 101 means: do not start services (deb-systemd-invoke and invoke-rc.d ask this program).
policy=/usr/sbin/policy-rc.d
made_policy=no
remove_policy() {
  [ "$made_policy" = no ] || rm -f "$policy"
  made_policy=no
}

install_debian_packages() {
  missing=$(missing_debian_packages | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  if ! can_apt; then
    say "the tests need these Debian packages, install them as root: $missing"
    return 1
  fi
  say "installing Debian packages: $missing"
  if [ ! -e "$policy" ]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  trap 'remove_policy; exit 1' INT TERM
  # shellcheck disable=SC2086 # a list of words
  run_quietly "the Debian packages could not be installed" apt_install $missing
  status=$?
  remove_policy
  trap - INT TERM
  return $status
}

# step NAME COMMAND...: one line when it is right, its output when it is not.
failed=
step() {
  name=$1
  shift
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then
    echo "ok: $name"
  else
    cat "$log"
    echo "NOT OK: $name"
    failed="$failed $name"
  fi
  rm -f "$log"
}

if [ "$user" != 0 ]; then say "the tests mount file systems, which needs root"; exit 1; fi
install_debian_packages || exit 1
set_up full || exit 1

# Node of the project, not the one that started npm.
PATH=$modules/.bin:$PATH
for directory in "$modules"/node-linux-*/bin; do PATH=$directory:$PATH; done
export PATH

if [ $# -eq 0 ]; then
  step types tsc --noEmit
  step lint oxlint --type-aware --deny-warnings src test bench
  step format oxfmt --check src test bench
fi

node --disable-warning=ExperimentalWarning test/run.ts "$@" || failed="$failed tests"

if [ -n "$failed" ]; then
  echo "NOT OK:$failed" >&2
  exit 1
fi
