#include "base/err.h"

#include "base/panic.h"

static const struct err_row rows[] = {
#define X(symbol, status, code, message, retryable) {#symbol, status, code, message, retryable},
    ERR_ROWS(X)
#undef X
};

const struct err_row *err_row(enum err e) {
    invariant(e >= 0 && e < ERR_COUNT);
    return &rows[e];
}
