# Where this machine gets Debian from, for systems that are made here. To be sourced.

# repository NAME: what this machine's apt uses for Debian's NAME (debian, debian-security)
repository() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
        sed 's,/*$,,' | grep -m 1 "/$1\$" || true
}

# sources SUITE: lines of a sources.list; MIRROR=URL chooses another
sources() {
    local suite=$1 mirror=${MIRROR:-$(repository debian)} security
    [ -n "$mirror" ] || { echo "which mirror? MIRROR=URL says it" >&2; return 1; }
    echo "deb $mirror $suite main"
    echo "deb $mirror $suite-updates main"
    security=$(repository debian-security)
    if [ -n "$security" ]; then echo "deb $security $suite-security main"; fi
}

# Proxies and the like: a system made here fetches as this machine does.
fetching() {
    apt-config dump | grep -E '^Acquire::(Check|http|https|Retries)' || true
}

# make_base SUITE TAR OPTION...: a minimal system as a tar, unless it is there. Options of mmdebstrap.
make_base() {
    local suite=$1 tar=$2 lists options
    shift 2
    [ ! -e "$tar" ] || return 0
    mkdir -p "$(dirname "$tar")"
    lists=$(mktemp) options=$(mktemp)
    sources "$suite" >"$lists"
    fetching >"$options"
    mmdebstrap --quiet --format=tar --variant=minbase --aptopt="$options" "$@" \
        "$suite" "$tar.new" "$lists"
    rm -f "$lists" "$options"
    mv "$tar.new" "$tar"
}
