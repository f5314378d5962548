#!/bin/sh
# pages.sh GATEWAY DIR: writes aiwm-gateway.8 and aiwm-gateway.yaml.5 into DIR, from what the gateway
# itself says (--help, ctl --help, --help-config): no second text that could differ from the first.
set -eu

gateway=$1
dir=$2
version=$("$gateway" --version | cut -d ' ' -f 2)

# What roff would take for its own is escaped; a hyphen stays one that can be pasted.
escape='
function escaped(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    return text ~ /^[.\x27]/ ? "\\&" text : text
}'

title() {
    printf '.TH %s %s "" "aiwm-gateway %s" ""\n' "$1" "$2" "$version"
}

commands() {
    title AIWM-GATEWAY 8
    "$gateway" --help | awk "$escape"'
    function section(name) { printf ".SH %s\n", name }
    NR == 1 {
        sub(/^aiwm-gateway: /, "")
        sub(/\.$/, "")
        section("NAME")
        printf "aiwm\\-gateway \\- %s\n", escaped($0)
        next
    }
    !listed && /^[A-Z]/ { description = description escaped($0) "\n"; next }
    # "  command   what it does", or a second spelling below it
    /^  +(aiwm-gateway |--)/ && !examples {
        if (!listed++) section("SYNOPSIS")
        sub(/^ +/, "")
        at = match($0, /  +/)
        command = at ? substr($0, 1, at - 1) : $0
        if (command ~ /^--/) command = "aiwm-gateway " command
        printf ".TP\n\\fB%s\\fR\n%s\n", escaped(command), \
            at ? escaped(substr($0, at + RLENGTH)) : "what its name says"
        next
    }
    listed && !described++ { section("DESCRIPTION"); printf "%s", description }
    /^Examples/ { examples = 1; pending = 0; section("EXAMPLES"); print ".nf"; next }
    /^(Signals|Exit codes): / && !ended++ { if (examples) print ".fi"; examples = 0 }
    /^Signals: / { section("SIGNALS"); sub(/^Signals: /, "") }
    /^Exit codes: / { section("EXIT STATUS"); sub(/^Exit codes: /, "") }
    /^$/ { if (!examples) pending = 1; else print ""; next }
    pending && described { print ".PP" }
    { pending = 0; print escaped($0) }'
    printf '.SH CTL\n.nf\n'
    "$gateway" ctl --help | awk "$escape"'{ sub(/ +$/, ""); print escaped($0) }'
    cat <<END
.fi
.SH FILES
.TP
\\fI/etc/aiwm\\-gateway/aiwm\\-gateway.yaml\\fR
What the service reads; see \\fBaiwm\\-gateway.yaml\\fR(5).
.SH SEE ALSO
\\fBaiwm\\-gateway.yaml\\fR(5), \\fBsystemd\\fR(1)
END
}

keys() {
    title AIWM-GATEWAY.YAML 5
    cat <<END
.SH NAME
aiwm\\-gateway.yaml \\- configuration of aiwm\\-gateway
.SH DESCRIPTION
A YAML file of keys in groups, such as
.PP
.nf
upstream:
  url: https://aiwm.internal:3000
  connect_timeout: 2s
.fi
.PP
for \\fBupstream.url\\fR and \\fBupstream.connect_timeout\\fR. Each key can be given in the environment
as well, and there it wins. Unknown and repeated keys are refused.
.SH KEYS
END
    "$gateway" --help-config | awk "$escape"'
    /^[a-z]/ { printf ".TP\n\\fB%s\\fR\n", escaped($0); lines = 0; next }
    /^ / { sub(/^ +/, ""); if (lines++) print ".br"; print escaped($0) }'
    cat <<END
.SH SEE ALSO
\\fBaiwm\\-gateway\\fR(8)
END
}

mkdir -p "$dir"
commands >"$dir/aiwm-gateway.8"
keys >"$dir/aiwm-gateway.yaml.5"
