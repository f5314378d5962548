# Checks what the files of src/ include. Reads the file itself: awk -f floors.awk $(find src -name '*.[ch]').
#
#   base <- rules <- io <- serve <- app: a file includes its own floor and those below;
#   src/main.c stands above them all. A library's header is included where it belongs and nowhere
#   else. rules/ decides: no sockets, no clock, no log, no files.
#
# Prints one line for each wrong include; exit code 1 if there was one.

function floor(name) { return name in rank ? rank[name] : -1 }

# Where `pattern` matches an include's name, the including file must match `home`.
function only(pattern, home) { pattern_of[++rules] = pattern; home_of[rules] = home }

function complain(why) {
    printf "%s:%d: includes %s: %s\n", path, FNR, included, why
    wrong++
}

BEGIN {
    floors = split("base rules io serve app", names, " ")
    for (i = 1; i <= floors; i++)
        rank[names[i]] = i

    # The loop's events; app/app.c watches signals with them.
    only("^event2/", "^(io/.*|app/app\\.c)$")
    only("^event2/http", "^io/operator\\.c$")
    # TLS; app/setup.h names the SSL_CTX that it hands from io to io.
    only("^openssl/(ssl|x509|x509v3|x509_vfy|pem|err|bio)\\.h$", "^(io/.*|app/setup\\.h)$")
    # libcrypto: digests and sealing.
    # app/admin.c compares its token in constant time, with it.
    only("^openssl/", "^(io/.*|app/(setup\\.h|admin\\.c)|rules/trust/(grant|seal|token)\\.c|rules/trust/hmac\\.[ch])$")
    only("^hiredis/", "^io/redis(_link|_sentinel|_values)?\\.c$")
    only("^jansson\\.h$", "^(rules/wire/payload|app/ctl_show)\\.c$")
    only("^jwt\\.h$", "^rules/trust/token\\.c$")
    only("^yaml\\.h$", "^rules/config/config_yaml\\.c$")
    # Sockets, descriptors, names: what touches the outside.
    only("^(sys/(socket|epoll|eventfd|uio|un)|netdb|netinet/.*|poll|arpa/inet)\\.h$",
         "^(io/.*|rules/(config/config_values|wire/address)\\.c)$") # inet_pton reads an address, it opens nothing
    # The time is passed in, and only app, serve and io ask for it.
    only("^(base/clock|time|sys/time)\\.h$", "^(base|io|serve|app)/")
    # Decisions do not log; the option table takes its names for levels from the log.
    only("^base/log\\.h$", "^((base|io|serve|app)/.*|rules/config/config_table\\.c)$")
    # Files and signals. Locks are allowed: what workers share lives in rules/.
    only("^(fcntl|unistd|signal|sys/stat)\\.h$", "^((base|io|app)/.*|main\\.c)$")
    # The stand-in for the controller serves the demo.
    only("^stub/", "^app/demo\\.c$")
}

FNR == 1 {
    path = FILENAME
    file = FILENAME
    sub(/^.*src\//, "", file)
    own = file
    sub(/\/.*/, "", own)
    if (file != "main.c" && floor(own) < 0) {
        printf "%s: on no floor\n", path
        wrong++
    }
}

/^[ \t]*#[ \t]*include[ \t]*[<"]/ {
    included = $0
    sub(/^[^<"]*[<"]/, "", included)
    sub(/[>"].*/, "", included)
    quoted = $0 ~ /^[^<"]*"/

    other = included
    sub(/\/.*/, "", other)
    if (quoted && included !~ /\//)
        complain("write it from src/")
    if (quoted && floor(other) < 0 && other != "stub")
        complain("on no floor")
    if (file != "main.c" && floor(other) > floor(own))
        complain(own "/ stands below " other "/")

    for (i = 1; i <= rules; i++)
        if (included ~ pattern_of[i] && file !~ home_of[i])
            complain("belongs to " home_of[i])
}

END { exit wrong > 0 }
