#include "agents/stats.h"

#include <math.h>

struct stats_sample stats_of(const double *values, size_t count) {
    struct stats_sample s = {0};
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i])) {
            sum += values[i];
            s.count++;
        }
    s.mean = s.count ? sum / (double)s.count : NAN;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i]))
            squares += (values[i] - s.mean) * (values[i] - s.mean);
    s.deviation = s.count > 1 ? sqrt(squares / (double)(s.count - 1)) : 0;
    return s;
}

double stats_student(double freedom) {
    static const double table[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                   2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                   2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                   2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
    const double normal = 1.960;
    const size_t rows = sizeof table / sizeof *table;
    if (freedom < 1)
        return table[0];
    if (freedom >= (double)rows) /* Fisher's expansion, exact to three digits from here on */
        return normal + (normal * normal * normal + normal) / (4 * freedom);
    size_t below = (size_t)freedom;
    double part = freedom - (double)below;
    return table[below - 1] + part * (table[below] - table[below - 1]);
}

bool stats_compare(const struct stats_sample *a, const struct stats_sample *b,
                   struct stats_difference *out) {
    if (a->count < 2 || b->count < 2)
        return false;
    double va = a->deviation * a->deviation / (double)a->count;
    double vb = b->deviation * b->deviation / (double)b->count;
    double spread = va + vb, freedom = 1;
    /* Welch and Satterthwaite. */
    if (spread > 0)
        freedom =
            spread * spread / (va * va / (double)(a->count - 1) + vb * vb / (double)(b->count - 1));
    double half = stats_student(freedom) * sqrt(spread);
    double mean = b->mean - a->mean;
    *out = (struct stats_difference){mean, mean - half, mean + half,
                                     mean - half > 0 || mean + half < 0};
    return true;
}
