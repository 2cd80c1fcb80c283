# shellcheck shell=bash
# Root folders out of Debian's packages, of any suite, without touching the machine's own packages. Sourced, never run.

# debian_mirror: the one this machine installs from.
debian_mirror() {
  local mirror
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n1)
  printf '%s\n' "${mirror:-http://deb.debian.org/debian}"
}

# apt_of WORK SUITE COMMAND...: apt-get that knows this suite alone, and of no installed package.
apt_of() {
  local here=$1/$2 suite=$2
  shift 2
  if [[ ! -d $here ]]; then
    mkdir -p "$here"/{sources,state/lists/partial,cache/archives/partial}
    touch "$here/status"
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
      "$(debian_mirror)" "$suite" >"$here/sources/debian.sources"
    apt_of "${here%/*}" "$suite" update
  fi
  apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$here/sources" -o Dir::State="$here/state" \
    -o Dir::State::status="$here/status" -o Dir::Cache="$here/cache" -o Dir::Etc::preferencesparts=/dev/null \
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Acquire::Languages=none "$@" >&2
}

# unpack WORK ROOT SUITE PACKAGE...: with what they depend on, but for the machinery that only an installed
# package needs.
unpack() {
  local work=$1 into=$2 suite=$3 deb
  shift 3
  apt_of "$work" "$suite" install --yes --download-only "$@"
  for deb in "$work/$suite"/cache/archives/*.deb; do
    case ${deb##*/} in
      debconf_* | cdebconf_* | perl* | libperl* | dpkg_* | adduser_* | passwd_* | ucf_* | sensible-utils_* | debianutils_* | init-system-helpers_*) ;;
      *) unpack_one "$deb" "$into" ;;
    esac
  done
}

# unpack_alone WORK ROOT SUITE PACKAGE...: without what they depend on.
unpack_alone() {
  local work=$1 into=$2 suite=$3 deb alone
  shift 3
  alone=$(mktemp -d "$work/alone.XXXXXX")
  apt_of "$work" "$suite" update
  (cd "$alone" && apt_of "$work" "$suite" download "$@")
  for deb in "$alone"/*.deb; do
    unpack_one "$deb" "$into"
  done
}

# unpack_one DEB ROOT: --keep-directory-symlink, or a package of before the merged /usr would replace /lib.
unpack_one() {
  local folder
  if [[ ! -e $2/usr ]]; then
    mkdir -p "$2"/{usr/{bin,sbin,lib,lib64},etc,tmp,run,var/tmp,proc,sys,dev}
    chmod 1777 "$2/tmp" "$2/var/tmp"
    ln -s /run "$2/var/run"
    for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$2/$folder"; done
  fi
  dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"
}

# slim ROOT: without what nobody reads in a container.
slim() {
  rm -rf "$1"/usr/share/{doc,man,info,locale,lintian,bash-completion,pixmaps,postgresql-common,menu,bug,gcc,gdb} "$1"/usr/lib/*/gconv \
    "$1"/usr/share/perl* "$1"/usr/lib/systemd "$1"/usr/lib/udev "$1"/usr/share/i18n
}

# complete ROOT FOLDER: every program in this folder of the root finds its libraries there.
complete() {
  local program lost
  for program in "$1$2"/*; do
    [[ $(head -c4 "$program" | tail -c3) == ELF ]] || continue
    lost=$(chroot "$1" /lib64/ld-linux-x86-64.so.2 --list "$2/${program##*/}" 2>&1 | grep 'not found' || true)
    [[ -z $lost ]] || die "$2/${program##*/} would not start in the image: $lost"
  done
}
