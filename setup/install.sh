# Installs what Ebb needs. Read by `ebb` and by test/run.sh, which have set:
#   root     the project's directory
#   modules  $root/node_modules
#   user     the numeric user id
# and have defined is_installed, which tells whether npm's packages are there. Any POSIX shell.
# Says on standard error what it does, one line each; everything else goes to a log that is shown on failure.

say() {
  echo "ebb: $*" >&2
}

# run_quietly SENTENCE COMMAND...: shows the end of the command's output only when it fails.
run_quietly() {
  sentence=$1
  shift
  log=$(mktemp) || return 1
  if "$@" >"$log" 2>&1 </dev/null; then
    rm -f "$log"
    return 0
  fi
  tail -n 20 "$log" >&2
  rm -f "$log"
  say "$sentence"
  return 1
}

can_apt() {
  [ "$user" = 0 ] && command -v apt-get >/dev/null
}

# apt_install PACKAGE...: from the lists that are there, or else from fresh ones.
apt_install() {
  DEBIAN_FRONTEND=noninteractive
  export DEBIAN_FRONTEND
  apt-get install -y -q --no-install-recommends "$@" && return 0
  apt-get update -q && apt-get install -y -q --no-install-recommends "$@"
}

has_npm() {
  npm --version >/dev/null 2>&1
}

ensure_npm() {
  has_npm && return 0
  if ! can_apt; then
    say "npm is needed to install Ebb's packages; install nodejs and npm (Debian: apt-get install nodejs npm)"
    return 1
  fi
  say "installing the Debian packages nodejs and npm"
  run_quietly "the Debian packages nodejs and npm could not be installed; do that, then run ebb again" \
    apt_install nodejs npm || return 1
  has_npm
}

# Only mounts without root need fusermount3, so this may fail.
ensure_fusermount() {
  command -v fusermount3 >/dev/null && return 0
  can_apt || return 0
  say "installing the Debian package fuse3"
  run_quietly "fuse3 could not be installed; without it only root can mount" apt_install fuse3 || true
}

# npm_install OPTION: what package-lock.json says, into an empty node_modules. Not `npm ci`, which refuses a
# lock file without the packages of all other platforms, even where the registry has none of them; `npm install`
# takes the same versions and checks the same sums. npm's own mark goes first: without it nothing counts as
# installed, wherever this breaks off.
npm_install() {
  rm -f "$modules/.package-lock.json"
  rm -rf "$modules"
  (cd -- "$root" && npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error "$1")
}

# set_up [full]: makes everything ready; `full` with what only development needs. One process at a time.
set_up() {
  if [ ! -f "$root/package-lock.json" ]; then
    say "$root/package-lock.json is missing; start ebb from a complete copy of the project"
    return 1
  fi
  if [ ! -w "$root" ] || { [ -d "$modules" ] && [ ! -w "$modules" ]; }; then
    say "its packages are not installed in $root, and you may not write there; run '$root/ebb --version' once as its owner"
    return 1
  fi
  if command -v flock >/dev/null; then
    exec 9<"$root/package-lock.json"
    if ! flock -n 9; then
      say "waiting for another ebb that is installing"
      flock 9
    fi
  fi
  set_up_alone "$@"
  status=$?
  exec 9<&-
  return $status
}

set_up_alone() {
  installed=no
  if ! is_installed; then
    ensure_npm || return 1
    say "installing its packages into $modules"
    omit=--omit=dev
    # What was complete stays complete.
    if [ "${1:-}" = full ] || [ -d "$modules/oxlint" ]; then omit=--include=dev; fi
    run_quietly "its packages could not be installed (npm install in $root failed, see above)" \
      npm_install "$omit" || return 1
    installed=yes
  fi
  [ "${1:-}" = full ] || ensure_fusermount
  # Before the last look: a lock file with a time in the future is told by its content.
  cp "$root/package-lock.json" "$modules/.ebb-package-lock.json" || return 1
  [ "$installed" = no ] || is_installed && return 0
  say "npm reported success, but packages are missing in $modules; see 'npm install' in $root"
  return 1
}
