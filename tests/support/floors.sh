#!/bin/sh
# floors.sh SRC: checks who includes whom (floors.awk says what is right).
# floors.sh --self-test: shows that it finds each kind of wrong include, planted in an empty house.
set -eu
here=$(dirname "$0")

check() {
    find "$1" -name '*.[ch]' | LC_ALL=C sort | xargs awk -f "$here/floors.awk"
}

# expect VERDICT FILE INCLUDE: a house with only that include is right or wrong.
expect() {
    house=$(mktemp -d)
    mkdir -p "$(dirname "$house/src/$2")"
    printf '#include %s\n' "$3" >"$house/src/$2"
    if check "$house/src" >/dev/null; then verdict=right; else verdict=wrong; fi
    rm -rf "$house"
    if [ $verdict != "$1" ]; then
        echo "floors.sh: $2 includes $3: expected $1, found $verdict"
        exit 1
    fi
}

# expect_circle VERDICT A B C: a house in which A includes B, B includes C, and C includes A.
expect_circle() {
    house=$(mktemp -d)
    for pair in "$2 $3" "$3 $4" "$4 $2"; do
        file=${pair% *} other=${pair#* }
        mkdir -p "$(dirname "$house/src/$file.c")"
        printf '#include "%s.h"\n' "$other" >"$house/src/$file.c"
    done
    if check "$house/src" >/dev/null; then verdict=right; else verdict=wrong; fi
    rm -rf "$house"
    if [ $verdict != "$1" ]; then
        echo "floors.sh: $2, $3, $4 in a circle: expected $1, found $verdict"
        exit 1
    fi
}

self_test() {
    expect right rules/agents/beat.c '"base/span.h"'
    expect right rules/agents/beat.c '"rules/agents/beat.h"'
    expect right io/server.c '"rules/wire/http.h"'
    expect right io/server.c '<event2/event.h>'
    expect right main.c '"app/app.h"'
    expect wrong base/str.c '"rules/wire/http.h"'
    expect wrong rules/agents/beat.c '"io/loop.h"'
    expect wrong io/server.c '"serve/request/context.h"'
    expect wrong serve/beats/turn.c '"app/app.h"'
    expect right serve/beats/turn.c '"serve/beats/durable.h"'
    expect right serve/beats/verdict.c '"serve/cache/purge.h"'
    expect right serve/connect/lesson.c '"serve/beats/verdict.h"'
    expect right serve/routes.c '"serve/connect/connect.h"'
    expect wrong serve/cache/purge.c '"serve/beats/verdict.h"'
    expect wrong serve/gate/admission.c '"serve/beats/beats.h"'
    expect wrong serve/request/answer.c '"serve/routes.h"'
    expect wrong serve/attic/turn.c '<stdio.h>'
    expect_circle wrong serve/beats/bulk serve/beats/sending serve/beats/turn
    expect_circle right io/conn io/exchange io/reading
    expect right serve/gate/passage.c '"serve/gate/admission_inside.h"'
    expect wrong rules/agents/beat.c '"base/clock.h"'
    expect wrong rules/agents/beat.c '"base/log.h"'
    expect wrong rules/agents/beat.c '<sys/socket.h>'
    expect wrong rules/agents/beat.c '<time.h>'
    expect wrong serve/forward/forward.c '<event2/buffer.h>'
    expect wrong io/server.c '<event2/http.h>'
    expect wrong serve/forward/forward.c '<openssl/ssl.h>'
    expect wrong serve/forward/forward.c '<jansson.h>'
    expect wrong rules/trust/grant.c '<jwt.h>'
    expect wrong rules/config/config.c '<yaml.h>'
    expect wrong app/app.c '"stub/stub.h"'
    expect wrong rules/agents/beat.c '"beat.h"'
    expect wrong attic/beat.c '<stdio.h>'
}

if [ "$1" = --self-test ]; then self_test; else check "$1"; fi
