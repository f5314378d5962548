#!/bin/bash
# coverage.sh DIRECTORY...: runs unit tests and corpora of a coverage build, prints for each file
# and directory of sources how many of its lines ran. Line by line: gcov on $BUILD/obj.
set -euo pipefail
cd "$(dirname "$0")/../.."

find "$BUILD" -name '*.gcda' -delete
tests/support/run-tests.sh unit replay

for directory in "$@"; do
    find "$BUILD/obj/$directory" -name '*.gcda' | LC_ALL=C sort | while read -r data; do
        gcov -n -o "$data" "${data%.gcda}.c" 2>/dev/null
    done | awk -v directory="$directory" '
        /^File / { file = $2; gsub(/\047/, "", file); mine = index(file, directory "/") == 1 && file ~ /\.c$/ }
        /^Lines executed:/ && mine {
            split($0, part, /[:% ]+/) # "Lines", "executed", percent, "of", lines
            printf "  %-32s %6.2f %% of %d lines\n", file, part[3], part[5]
            ran += part[3] * part[5] / 100
            lines += part[5]
            mine = 0
        }
        END { printf "%s: %.1f %% of %d lines\n", directory, lines ? 100 * ran / lines : 0, lines }'
done
