# Starts the broker of an image mount before the command line is read, so that its Node and that of the CLI start beside one
# another (docs/decisions/0050-the-shell-starts-the-broker.md). Read by `ebb`, which has set:
#   root     the project's directory
#   user     the numeric user id
#   node     Node
# The broker waits for its options on a pipe, as it always does. src/cli/started-ahead.ts takes it over, or ends it. Where
# anything is not as usual nothing is started here, and src/cli/launch-service.ts does it later. Any POSIX shell, though not
# every one makes a pipe of a here-document.

# broker_of WORD...: sets `script`; fails when the words are no mount.
broker_of() {
  [ $# -ge 4 ] || return 1
  script=${EBB_IMAGE_MAIN:-$root/src/image/broker/main.ts}
  for word in "$@"; do
    case $word in
      --help | -h) return 1 ;;
      [Hh][Tt][Tt][Pp]://* | [Hh][Tt][Tt][Pp][Ss]://*)
        script=${EBB_IMAGE_REMOTE_MAIN:-$root/src/daemon/image/mount-main.ts}
        ;;
    esac
  done
}

# As `runDirectory` of src/base/run-directory.ts. Sets `run`; fails where there is none of this user yet.
find_run_directory() {
  run=/run/ebb
  [ "$user" = 0 ] || run=/tmp/ebb-$user
  case ${XDG_RUNTIME_DIR:-} in /*) [ "$user" = 0 ] || run=$XDG_RUNTIME_DIR/ebb ;; esac
  case ${EBB_RUN_DIR:-} in /*) run=$EBB_RUN_DIR ;; esac
  [ -d "$run" ] && [ ! -L "$run" ] && [ -O "$run" ]
}

# What the caller has open, as the lock of a script is, ends with the caller, but a broker lives on, and a shell cannot
# close numbers above 9. It has one itself that is closed for other programs: the script.
has_foreign_descriptors() {
  own=10
  [ -z "${BASH_VERSION:-}" ] || own=255
  for fd in /proc/self/fd/*; do
    case ${fd##*/} in
      [0-9] | "$own") ;;
      *) return 0 ;;
    esac
  done
  return 1
}

# Two pipes: an anonymous one can be opened by the name of one end for either way.
make_pipes() {
  exec 3<<END 4<<END
END
END
  [ -p /proc/self/fd/3 ] && [ -p /proc/self/fd/4 ] || return 1
  exec 5>/proc/self/fd/3 6</proc/self/fd/4
}

# As `launch` of src/cli/launch-service.ts does it.
run_broker() {
  export UV_THREADPOOL_SIZE=16 MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072
  cd / && exec setsid "$node" --disable-warning=ExperimentalWarning --use-system-ca --max-semi-space-size=2 "$script"
}

start_broker_ahead() {
  broker_of "$@" && find_run_directory && command -v setsid >/dev/null || return 0
  has_foreign_descriptors && return 0
  make_pipes || {
    exec 3<&- 4<&-
    return 0
  }
  log=$run/starting-$$.log
  # Made now, or nobody knows whose it is. Then for appending: whoever writes there cannot change what is there.
  set -C
  command exec 7>"$log" || log=
  set +C
  if [ -n "$log" ]; then
    exec 7>>/proc/self/fd/7
  else
    exec 3<&- 4<&- 5>&- 6<&-
    return 0
  fi
  run_broker </proc/self/fd/3 >&7 2>&7 3>/proc/self/fd/4 4<&- 5>&- 6<&- 7>&- 8>&- 9>&- &
  EBB_STARTED_AHEAD="$! $script"
  export EBB_STARTED_AHEAD
  exec 3<&- 4<&- 7>&-
}
