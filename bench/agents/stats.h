/* Is A different from B? Means of repeated runs and Welch's interval for their difference. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct stats_sample {
    size_t count;
    double mean;
    double deviation; /* of the sample (n - 1); 0 with fewer than two */
};

/* NaNs are left out. */
struct stats_sample stats_of(const double *values, size_t count);

/* With 95 % confidence b - a lies from `low` to `high` (Welch 1947, unequal variances). */
struct stats_difference {
    double mean, low, high;
    bool differs; /* the interval does not hold 0 */
};

/* False when either has fewer than two values: one run says nothing about chance. */
bool stats_compare(const struct stats_sample *a, const struct stats_sample *b,
                   struct stats_difference *out);

/* The 97.5 % quantile of Student's t; `freedom` 1 or more, interpolated between whole numbers. */
double stats_student(double freedom);
