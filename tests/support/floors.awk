# Checks what the files of src/ include. Reads the file itself: awk -f floors.awk $(find src -name '*.[ch]').
#
#   base <- rules <- io <- serve <- app: a file includes its own floor and those below;
#   src/main.c stands above them all. A library's header is included where it belongs and nowhere
#   else. rules/ decides: no sockets, no clock, no log, no files.
#
#   Inside serve/ the rooms stand in an order, too, and serve's own files above them. In app/, serve/
#   and base/ no files include each other in a circle (x.c and x.h are one, x_inside.h is x's).
#
# Prints one line for each wrong include and each circle; exit code 1 if there was one.

function floor(name) { return name in rank ? rank[name] : -1 }

# Of serve/beats/x.c: beats; of serve/x.c: the highest.
function room(name, parts) {
    if (split(name, parts, "/") < 3)
        return rooms + 1
    return parts[2] in order ? order[parts[2]] : -1
}

function module(name) {
    sub(/(_inside)?\.[ch]$/, "", name)
    return name
}

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
    rooms = split("request redis limits gate cache beats forward connect", names, " ")
    for (i = 1; i <= rooms; i++)
        order[names[i]] = i

    # The loop's events; app/process.c watches signals with them.
    only("^event2/", "^(io/.*|app/process\\.c)$")
    only("^event2/http", "^io/operator(_conns)?\\.c$")
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
    if (own == "serve" && room(file) < 0) {
        printf "%s: in no room of serve/\n", path
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
    if (own == "serve" && other == "serve" && room(included) > room(file))
        complain("in a room above its own")
    if (own == other && own ~ /^(app|serve|base)$/ && module(file) != module(included))
        arrow[module(file), module(included)] = 1

    for (i = 1; i <= rules; i++)
        if (included ~ pattern_of[i] && file !~ home_of[i])
            complain("belongs to " home_of[i])
}

# Who includes nobody that is left is in no circle. Those who remain are, or stand above one.
function leave(    pair, ends, stays, left) {
    for (pair in arrow) {
        split(pair, ends, SUBSEP)
        stays[ends[1]] = 1
    }
    for (pair in arrow) {
        split(pair, ends, SUBSEP)
        if (!(ends[2] in stays)) {
            delete arrow[pair]
            left++
        }
    }
    return left
}

END {
    while (leave() > 0)
        continue
    for (pair in arrow) {
        split(pair, ends, SUBSEP)
        printf "%s includes %s, which leads back to it, or to another circle\n", ends[1], ends[2]
        wrong++
    }
    exit wrong > 0
}
