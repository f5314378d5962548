# aiwm-gateway: `make help` lists the targets.
#
# Builds go to $(BUILD) and nowhere else; every flavour (release, asan, tsan, fuzz) has its own.

BUILD   ?= build
FLAVOUR ?= release
CC      ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
VERSION := $(shell cat VERSION)

# ---- what it is made of ----

SOURCES := $(wildcard src/*/*.c src/*/*/*.c)
STUB    := $(wildcard bench/stub/*.c)
BENCH   := $(wildcard bench/agents/*.c)
SIM     := $(wildcard bench/sim/*.c)
UNIT    := $(wildcard tests/unit/*.c)
TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
LINTED  := src/main.c bench/stub_main.c bench/bench_main.c bench/sim_main.c bench/peers/client.c \
           $(SOURCES) $(STUB) $(BENCH) $(SIM)
FORMATTED := $(wildcard src/*.[ch] src/*/*.[ch] src/*/*/*.[ch] bench/*.[ch] bench/*/*.[ch] tests/*/*.[ch])

LIBRARIES := libevent libevent_pthreads jansson libjwt yaml-0.1 openssl hiredis

# What `make deps-…` installs, by Debian's names.
PACKAGES_build := gcc libc6-dev pkg-config libevent-dev libjansson-dev libjwt-dev libyaml-dev \
                  libssl-dev libhiredis-dev
PACKAGES_run   := $(PACKAGES_build) curl openssl
PACKAGES_test  := $(PACKAGES_build) libcriterion-dev curl nodejs openssl redis-server \
                  redis-sentinel redis-tools
PACKAGES_fuzz  := $(PACKAGES_build) clang libclang-rt-dev
PACKAGES_bench := $(PACKAGES_build) nodejs openssl util-linux haproxy wrk nginx libnginx-mod-http-lua \
                  lua-resty-core lua-resty-lrucache lua-cjson
PACKAGES_check := $(PACKAGES_build) nodejs openssl util-linux valgrind
PACKAGES_lint  := $(PACKAGES_test) clang-format clang-tidy cppcheck

# ---- how it is compiled ----

# Empty until the packages are there: the targets for people install first, then call make again.
PKG_CFLAGS := $(shell pkg-config --cflags $(LIBRARIES) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(LIBRARIES) 2>/dev/null)

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wwrite-strings -Wvla -Wformat=2 -Wundef -Wpointer-arith -Wcast-qual -Werror
HARDENING := -fstack-protector-strong -fPIE -fcf-protection=full
LINK_HARDENING := -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack
ifneq ($(shell uname -m),x86_64)
HARDENING := $(filter-out -fcf-protection=full,$(HARDENING))
endif

CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2 -fno-plt $(HARDENING)
LDFLAGS_release := $(LINK_HARDENING)
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
               -fno-omit-frame-pointer
LDFLAGS_asan := -fsanitize=address,undefined
# gcc 12 sees uninitialised ghosts once it has instrumented for threads.
CFLAGS_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer -Wno-maybe-uninitialized
LDFLAGS_tsan := -fsanitize=thread
CFLAGS_fuzz := -O1 -g -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all
LDFLAGS_fuzz := -fsanitize=address,undefined,fuzzer
CFLAGS_coverage := -O0 -g --coverage
LDFLAGS_coverage := --coverage

LANGUAGE := -std=c17 -D_GNU_SOURCE -DGATEWAY_VERSION='"$(VERSION)"' -Isrc -Ibench $(PKG_CFLAGS)
ALL_CFLAGS := $(LANGUAGE) $(WARNINGS) -pthread $(CFLAGS_$(FLAVOUR)) $(CFLAGS)
ALL_LDFLAGS := -pthread $(LDFLAGS_$(FLAVOUR)) $(LDFLAGS)

object = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB    := $(call object,$(SOURCES) $(STUB))
# With other targets name these, not `all`: its make of its own would compile the same beside them.
PROGRAMS := $(BUILD)/aiwm-gateway $(BUILD)/aiwm-stub $(BUILD)/aiwm-bench

# V=1 shows the commands.
ifeq ($(V),1)
Q :=
say = :
else
Q := @
say = printf '  %-5s %s\n'
endif
link = @$(say) LINK $@
compile = @$(say) CC $<

# make again, with all processors unless the caller said how many.
AGAIN = $(MAKE) --no-print-directory $(if $(Q),-s) $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

# ---- targets for people ----

.PHONY: all help run test asan tsan fuzz lint coverage chroot-check clean

##   make                 build/aiwm-gateway, build/aiwm-stub (the stand-in for AIWM) and
##                        build/aiwm-bench (a fleet of agents, to see what both can bear)
all:
	@pkg-config --exists $(LIBRARIES) 2>/dev/null || \
	 { echo "libraries are missing: \`make deps-build\` installs them"; exit 1; }
	@+$(AGAIN) $(PROGRAMS)

##   make run             installs what is missing, builds, starts the demo; Ctrl-C ends it.
##                        AIWM_GATEWAY_UPSTREAM_URL=... AIWM_GATEWAY_JWT_SECRET=... make run
##                        puts it in front of a real controller
run: deps-run
	@+$(AGAIN) all
	@$(BUILD)/aiwm-gateway --demo

##   make test            installs what tests need and runs them all; E2E=agent: one file of e2e
test: deps-test
	@+$(AGAIN) $(PROGRAMS) $(BUILD)/unit $(TARGETS:%=$(BUILD)/replay_%)
	@BUILD=$(BUILD) tests/support/run-tests.sh unit replay e2e contrib

##   make unit            the unit tests alone
.PHONY: unit
unit: deps-test
	@+$(AGAIN) $(BUILD)/unit
	@BUILD=$(BUILD) tests/support/run-tests.sh unit

##   make asan            all tests with address, leak and undefined behaviour sanitizers
asan:
	@+$(MAKE) --no-print-directory test BUILD=$(BUILD)/asan FLAVOUR=asan

##   make tsan            end to end tests with the thread sanitizer
tsan: deps-test
	@+$(AGAIN) all BUILD=$(BUILD)/tsan FLAVOUR=tsan
	@BUILD=$(BUILD)/tsan tests/support/run-tests.sh e2e

##   make fault           kills -9 of gateways, Redis and controller under load, FAULT_ROUNDS=20:
##                        some fifteen minutes; SEED=N repeats a run. With sanitizers:
##                        make fault BUILD=build/asan FLAVOUR=asan (or tsan)
.PHONY: fault
FAULT_ROUNDS ?= 20
fault: deps-test
	@+$(AGAIN) all
	@BUILD=$(BUILD) tests/support/fault.sh --rounds $(FAULT_ROUNDS) $(if $(SEED),--seed $(SEED))

##   make proof           what is promised, measured at full size: some five minutes; docs/proof.md
##                        PROOFS="storm attacks": only these
.PHONY: proof
proof: deps-test
	@+$(AGAIN) all
	@BUILD=$(BUILD) tests/proof/run.sh $(PROOFS)

##   make bench-peers     CPU, latency and memory beside HAProxy and nginx: some ten minutes;
##                        docs/performance.md. ROWS=heartbeat,forged: only these
.PHONY: bench-peers
bench-peers: deps-bench
	@+$(AGAIN) $(PROGRAMS) $(BUILD)/bench-client
	@BUILD=$(abspath $(BUILD)) node bench/peers/peers.mjs

##   make bench-growth    how a heartbeat's cost grows with agents, connections, its body
.PHONY: bench-growth
bench-growth: deps-bench
	@+$(AGAIN) all
	@BUILD=$(abspath $(BUILD)) node bench/peers/growth.mjs

##   make bench-durable   what it costs that a heartbeat is in Redis before it is acknowledged
.PHONY: bench-durable
bench-durable: deps-bench
	@+$(AGAIN) $(PROGRAMS) $(BUILD)/bench-client
	@BUILD=$(abspath $(BUILD)) node bench/peers/durable.mjs

##   make bench-check     instructions per request on six hot paths, against those stored;
##                        WRITE=1 stores them
.PHONY: bench-check
bench-check: deps-check
	@+$(AGAIN) all
	@BUILD=$(abspath $(BUILD)) node bench/check/check.mjs $(if $(WRITE),--write)

##   make bench           a storm of 500 agents on a stand-in, without the gateway (given up after a
##                        minute) and with it; build/bench/report.html; docs/bench.md
.PHONY: bench
bench: deps-build
	@+$(AGAIN) all
	@$(BUILD)/aiwm-bench storm --compare direct gateway --runs 1 --agents 500 --within 2s --warm \
	  --warm-within 3s --give-up 1m --for 5s --beat 2s --max-lag 250ms --fail-if 'lost>0' --out $(BUILD)/bench

##   make fuzz            libFuzzer on every target, FUZZ_SECONDS=60 each; TARGET=http: only that
FUZZ_SECONDS ?= 60
TARGET ?= $(TARGETS)
fuzz: deps-fuzz
	@+$(AGAIN) $(TARGET:%=$(BUILD)/fuzz/fuzz_%) BUILD=$(BUILD)/fuzz FLAVOUR=fuzz CC=clang
	@BUILD=$(BUILD)/fuzz tests/support/fuzz.sh $(FUZZ_SECONDS) $(TARGET)

##   make lint            clang-format, floors, links of the docs, cppcheck, clang-tidy; with the
##                        versions of Debian 12
lint: deps-lint
	@+MAKE="$(AGAIN)" tests/support/lint.sh format floors docs cppcheck tidy

##   make k8s-check       deploy/k8s without a cluster: it renders, types, rules, planted mutants
.PHONY: k8s-check
k8s-check: deps-build
	@+$(AGAIN) all
	@BUILD=$(BUILD) tests/k8s/check.sh

##   make image-check     builds the image and runs it in a pod with Redis; needs root and podman
.PHONY: image-check
image-check: deps-build
	@+$(AGAIN) all
	@BUILD=$(BUILD) tests/image/check.sh

##   make prometheus-check  alerts against made-up series, /metrics against promtool, and scraped by a
##                        real Prometheus
.PHONY: prometheus-check
prometheus-check: deps-build
	@+$(AGAIN) all
	@BUILD=$(BUILD) tests/prometheus/check.sh

##   make check-all       test, lint and every check above, each once; what is skipped has failed
.PHONY: check-all
check-all:
	@tests/support/check-all.sh test lint k8s-check image-check install-check prometheus-check

##   make coverage        how much of src/rules and src/base the unit tests and corpora run
coverage: deps-test
	@+$(AGAIN) BUILD=$(BUILD)/coverage FLAVOUR=coverage \
	  $(BUILD)/coverage/unit $(TARGETS:%=$(BUILD)/coverage/replay_%)
	@BUILD=$(BUILD)/coverage tests/support/coverage.sh src/rules src/base

##   make chroot-check    make run and make test on a bare Debian 12; SUITE=trixie: on 13.
##                        Needs root and mmdebstrap; MIRROR=... to choose one
SUITE ?= bookworm
chroot-check:
	@tests/support/chroot-check.sh $(SUITE)

##   make docs            docs/config.md and its schema anew, from the option table
.PHONY: docs
docs:
	@+$(AGAIN) $(BUILD)/aiwm-gateway
	@$(BUILD)/aiwm-gateway --help-config=markdown >docs/config.md
	@$(BUILD)/aiwm-gateway --help-config=schema >docs/config.schema.json

##   make install         program, man pages, systemd unit: DESTDIR= PREFIX=/usr/local
##                        SYSCONFDIR=/etc, where a configuration that is there is kept
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
PLACE       = $(DESTDIR)$(PREFIX)
CONFIG_FILE = $(DESTDIR)$(SYSCONFDIR)/aiwm-gateway/aiwm-gateway.yaml
INSTALLED   = $(PLACE)/bin/aiwm-gateway \
              $(PLACE)/share/man/man8/aiwm-gateway.8 $(PLACE)/share/man/man5/aiwm-gateway.yaml.5 \
              $(PLACE)/lib/systemd/system/aiwm-gateway.service \
              $(PLACE)/lib/sysusers.d/aiwm-gateway.conf
.PHONY: install uninstall
install: all
	$(Q)deploy/man/pages.sh $(BUILD)/aiwm-gateway $(BUILD)/man
	$(Q)sed 's,@BINDIR@,$(PREFIX)/bin,; s,@SYSCONFDIR@,$(SYSCONFDIR),' \
	  deploy/systemd/aiwm-gateway.service.in > $(BUILD)/aiwm-gateway.service
	$(Q)install -D -m 755 $(BUILD)/aiwm-gateway $(PLACE)/bin/aiwm-gateway
	$(Q)install -D -m 644 $(BUILD)/man/aiwm-gateway.8 $(PLACE)/share/man/man8/aiwm-gateway.8
	$(Q)install -D -m 644 $(BUILD)/man/aiwm-gateway.yaml.5 \
	  $(PLACE)/share/man/man5/aiwm-gateway.yaml.5
	$(Q)install -D -m 644 $(BUILD)/aiwm-gateway.service \
	  $(PLACE)/lib/systemd/system/aiwm-gateway.service
	$(Q)install -D -m 644 deploy/systemd/aiwm-gateway.sysusers \
	  $(PLACE)/lib/sysusers.d/aiwm-gateway.conf
	$(Q)test -e $(CONFIG_FILE) || install -D -m 644 conf/aiwm-gateway.yaml $(CONFIG_FILE)

##   make uninstall       the same away; the configuration stays
uninstall:
	$(Q)rm -f $(INSTALLED)

##   make install-check   what make install installs: modes, man pages, the unit's exposure
.PHONY: install-check
install-check: deps-build
	@+$(AGAIN) all
	@BUILD=$(BUILD) tests/install/check.sh

##   make clean           removes build/
clean:
	rm -rf $(BUILD)

##   make deps-run        only installs packages, for: build, run, test, fuzz, lint, bench, check
.PHONY: $(addprefix deps-,build run test fuzz lint bench check)
$(addprefix deps-,build run test fuzz lint bench check): deps-%:
	@tests/support/deps.sh $(PACKAGES_$*)

help:
	@echo 'aiwm-gateway $(VERSION)'
	@echo
	@sed -n 's/^##//p' Makefile
	@echo
	@echo '  DEPS=no installs nothing · V=1 shows commands · CC=clang · BUILD=dir'

# ---- programs ----

$(BUILD)/aiwm-gateway: $(call object,src/main.c) $(LIB)
	$(link)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/aiwm-stub: $(call object,bench/stub_main.c) $(LIB)
	$(link)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/bench-client: $(call object,bench/peers/client.c)
	$(link)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/aiwm-sim: $(call object,bench/sim_main.c $(SIM)) $(LIB)
	$(link)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/aiwm-bench: $(call object,bench/bench_main.c $(BENCH)) $(LIB)
	$(link)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lm

$(BUILD)/unit: $(call object,$(UNIT) $(BENCH) $(SIM)) $(LIB)
	$(link)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lcriterion -lm

# FLAVOUR=fuzz brings libFuzzer's main; replay_… has one of its own, for any flavour.
$(BUILD)/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(LIB)
	$(link)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/replay_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/replay.o $(LIB)
	$(link)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(dir $@)
	$(compile)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Objects are rebuilt when the flags change, and only then.
.PHONY: FORCE
$(BUILD)/flags: FORCE
	@mkdir -p $(BUILD)
	@echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS))' | cmp -s - $@ || \
	 echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS))' > $@

# The commit that reports name. Written anew only when it changes.
$(BUILD)/commit.h: FORCE
	@mkdir -p $(BUILD)
	@echo "#define BENCH_COMMIT \"$$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)\"" \
	  | cmp -s - $@ || echo "#define BENCH_COMMIT \"$$(git describe --always --dirty --exclude '*' \
	  2>/dev/null || echo unknown)\"" > $@

$(call object,bench/agents/origin.c): $(BUILD)/commit.h
$(call object,bench/agents/origin.c): ALL_CFLAGS += -include $(BUILD)/commit.h

# ---- lint: called by tests/support/lint.sh ----

.PHONY: lint-format lint-floors lint-docs lint-cppcheck lint-tidy
lint-format:
	clang-format --dry-run -Werror $(FORMATTED)

lint-floors:
	tests/support/floors.sh --self-test
	tests/support/floors.sh src

# Relative links and anchors, and files named in `code`.
lint-docs:
	node tests/support/links.mjs --self-test
	node tests/support/links.mjs

lint-cppcheck:
	@mkdir -p $(BUILD)/cppcheck
	cppcheck -j$(shell nproc) --cppcheck-build-dir=$(BUILD)/cppcheck --quiet --std=c11 \
	  --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
	  --suppressions-list=tests/support/cppcheck.supp -D_GNU_SOURCE -Isrc -Ibench \
	  $(LINTED)

# A file is looked at again when its object would be: when it or a header of it changed.
lint-tidy: $(LINTED:%.c=$(BUILD)/tidy/%)

$(BUILD)/tidy/%: %.c $(BUILD)/obj/%.o .clang-tidy
	@mkdir -p $(dir $@)
	clang-tidy --quiet $< -- $(LANGUAGE) -Wall -Wextra 2>/dev/null
	@touch $@

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
.SECONDARY:
