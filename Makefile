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

# ---- what is built ----

SOURCES := $(wildcard src/base/*.c src/rules/*.c src/io/*.c src/serve/*.c src/app/*.c)
STUB    := $(wildcard bench/stub/*.c)
UNIT    := $(wildcard tests/unit/*.c)
FUZZ    := $(wildcard tests/fuzz/fuzz_*.c)

PACKAGES := libevent libevent_pthreads jansson libjwt yaml-0.1 openssl
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
            -Wwrite-strings -Wvla -Wformat=2 -Wundef -Wpointer-arith -Wcast-qual -Werror
HARDENING := -fstack-protector-strong -fPIE -fcf-protection=full
LINK_HARDENING := -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack

CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2 -fno-plt $(HARDENING)
LDFLAGS_release := $(LINK_HARDENING)
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
               -fno-omit-frame-pointer
LDFLAGS_asan := -fsanitize=address,undefined
CFLAGS_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
LDFLAGS_tsan := -fsanitize=thread
CFLAGS_fuzz := -O1 -g -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all
LDFLAGS_fuzz := -fsanitize=address,undefined,fuzzer

ALL_CFLAGS := -std=c17 -D_GNU_SOURCE -DGATEWAY_VERSION='"$(VERSION)"' $(WARNINGS) \
              -pthread -Isrc -Ibench $(PKG_CFLAGS) $(CFLAGS_$(FLAVOUR)) $(CFLAGS)
ALL_LDFLAGS := -pthread $(LDFLAGS_$(FLAVOUR)) $(LDFLAGS)

object = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB    := $(call object,$(SOURCES) $(STUB))

.PHONY: all
all: $(BUILD)/aiwm-gateway $(BUILD)/aiwm-stub

$(BUILD)/aiwm-gateway: $(call object,src/main.c) $(LIB)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/aiwm-stub: $(call object,bench/stub_main.c) $(LIB)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/unit: $(call object,$(UNIT)) $(LIB)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) -lcriterion

$(BUILD)/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(LIB)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(dir $@)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Objects are rebuilt when the flags change, and only then.
.PHONY: FORCE
$(BUILD)/flags: FORCE
	@mkdir -p $(BUILD)
	@echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS))' | cmp -s - $@ || \
	 echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS))' > $@

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
.SECONDARY:
