/* BatchNormalization of the last axis, and a relu behind it, both ways. A thread takes some rows, a few at a time that
   stay near; sums over a few rows are single, those over all of them double. What is read and written is float or
   bfloat16, what is computed float. */
#define SHARED
#include "kernels.h"
#include "halves.h"

typedef double d16 __attribute__((vector_size(128), aligned(8), may_alias));

/* Sizes and tensors of a call: x (rows, features), features in whole vectors. Mean and (biased) variance are those of
   the rows where they `move`, and otherwise given. `room` has two rows of doubles for each thread. */
struct normalized {
    long rows, features, is_half, relu, moves;
    const void *x;
    const float *gamma, *beta;
    const double *epsilon;
    float *mean, *variance;
    void *outputs;
    const void *slopes;
    void *x_slopes;
    double *room;
    float *gamma_slopes, *beta_slopes;
};

#define LANES 16
/* Numbers that stay near, and vectors that are gone through side by side. */
#define NEAR 4096
#define ABREAST 4
/* Rows that are taken at a time, and a thread's share of those: `first` to `last`. */
#define FEW(Q) (Q->features < NEAR ? NEAR / Q->features : 1)
#define CHUNKS(Q) ((Q->rows + FEW(Q) - 1) / FEW(Q))
#define ROW_OF(CHUNK) ((CHUNK) * few < q->rows ? (CHUNK) * few : q->rows)
#define OF_CHUNK(CHUNK) long first = ROW_OF(CHUNK), last = ROW_OF((CHUNK) + 1)

INLINE v16 take(const void *from, long at, int is_half) {
    return is_half ? wide_16((const half *)from + at) : *(const v16 *)((const float *)from + at);
}

INLINE void put(void *to, long at, v16 x, int is_half) {
    if (is_half) put_16((half *)to + at, x);
    else *(v16 *)((float *)to + at) = x;
}

INLINE v16 not_below_zero(v16 x) { return (v16)((i16)x & ~(x < 0)); }

/* Mean, and sum of squares around it, of some rows and of those before them as one. */
INLINE void join(double *mean, double *squares, double seen, double here, double more, double rows) {
    double apart = here - *mean, all = seen + rows;
    *mean += apart * rows / all;
    *squares += more + apart * apart * seen * rows / all;
}

/* The moments of V vectors of features over rows: around a mean that is rounded, and what is left of it after. */
INLINE void moments(const struct normalized *q, long first, long last, long j, double *mean, double *squares, long seen,
                    int is_half, int V) {
    v16 sum[ABREAST] = {0}, square[ABREAST] = {0}, rest[ABREAST] = {0}, middle[ABREAST];
    double rows = last - first;
    for (long r = first; r < last; r++)
        for (int c = 0; c < V; c++) sum[c] += take(q->x, r * q->features + j + LANES * c, is_half);
    for (int c = 0; c < V; c++) middle[c] = sum[c] / (float)rows;
    for (long r = first; r < last; r++)
        for (int c = 0; c < V; c++) {
            v16 apart = take(q->x, r * q->features + j + LANES * c, is_half) - middle[c];
            rest[c] += apart;
            square[c] += apart * apart;
        }
    for (int c = 0; c < V; c++)
        for (int l = 0; l < LANES; l++) {
            double left = rest[c][l] / rows;
            join(mean + j + LANES * c + l, squares + j + LANES * c + l, seen, middle[c][l] + left,
                 square[c][l] - left * left * rows, rows);
        }
}

/* Outputs of V vectors of features over rows. */
INLINE void outputs(const struct normalized *q, long first, long last, long j, const float *mean, const float *scale,
                    const float *shift, int is_half, int V) {
    for (long r = first; r < last; r++)
        for (int c = 0; c < V; c++) {
            long at = j + LANES * c;
            v16 y = (take(q->x, r * q->features + at, is_half) - *(const v16 *)(mean + at)) * *(const v16 *)(scale + at);
            y += *(const v16 *)(shift + at);
            put(q->outputs, r * q->features + at, q->relu ? not_below_zero(y) : y, is_half);
        }
}

/* A slope as it is before the relu, which let through what came out above zero. */
INLINE v16 slope_of(const struct normalized *q, long at, v16 apart, v16 scale, v16 shift, int is_half) {
    v16 slope = take(q->slopes, at, is_half);
    if (!q->relu) return slope;
    v16 y = apart * scale + shift;
    return (v16)((i16)slope & ~(y <= 0));
}

/* Sums of slopes, and of slopes times distances from the mean. */
INLINE void slope_sums(const struct normalized *q, long first, long last, long j, const float *mean, const float *scale,
                       const float *shift, double *sums, double *products, int is_half, int V) {
    v16 sum[ABREAST] = {0}, product[ABREAST] = {0};
    for (long r = first; r < last; r++)
        for (int c = 0; c < V; c++) {
            long at = j + LANES * c;
            v16 apart = take(q->x, r * q->features + at, is_half) - *(const v16 *)(mean + at);
            v16 slope = slope_of(q, r * q->features + at, apart, *(const v16 *)(scale + at),
                                 *(const v16 *)(shift + at), is_half);
            sum[c] += slope;
            product[c] += slope * apart;
        }
    for (int c = 0; c < V; c++) {
        *(d16 *)(sums + j + LANES * c) += __builtin_convertvector(sum[c], d16);
        *(d16 *)(products + j + LANES * c) += __builtin_convertvector(product[c], d16);
    }
}

/* Slopes of the input: scale * (slope - of_mean - apart * of_spread). */
INLINE void input_slopes(const struct normalized *q, long first, long last, long j, const float *mean,
                         const float *scale, const float *shift, const float *of_mean, const float *of_spread, int is_half,
                         int V) {
    for (long r = first; r < last; r++)
        for (int c = 0; c < V; c++) {
            long at = j + LANES * c;
            v16 apart = take(q->x, r * q->features + at, is_half) - *(const v16 *)(mean + at);
            v16 slope = slope_of(q, r * q->features + at, apart, *(const v16 *)(scale + at),
                                 *(const v16 *)(shift + at), is_half);
            slope -= *(const v16 *)(of_mean + at) + apart * *(const v16 *)(of_spread + at);
            put(q->x_slopes, r * q->features + at, slope * *(const v16 *)(scale + at), is_half);
        }
}

/* All features of some rows: STATEMENT with `j`, `is_half` and `V`. */
#define EACH_FEATURE_IN(HALF, STATEMENT)                                                                              \
    do {                                                                                                              \
        long j = 0;                                                                                                   \
        for (; j + 4 * LANES <= q->features; j += 4 * LANES) STATEMENT(HALF, 4);                                      \
        for (; j + 2 * LANES <= q->features; j += 2 * LANES) STATEMENT(HALF, 2);                                      \
        for (; j < q->features; j += LANES) STATEMENT(HALF, 1);                                                       \
    } while (0)
#define EACH_FEATURE(STATEMENT)                                                                                       \
    if (q->is_half) EACH_FEATURE_IN(1, STATEMENT);                                                                       \
    else EACH_FEATURE_IN(0, STATEMENT)

/* What a feature is multiplied by and what is added, from the mean and variance that were found or given. */
static void scales(const struct normalized *q, float *scale, float *shift) {
    for (long j = 0; j < q->features; j++) {
        scale[j] = (q->gamma ? q->gamma[j] : 1) / sqrt(q->variance[j] + *q->epsilon);
        shift[j] = q->beta ? q->beta[j] : 0;
    }
}

/* The moments that threads found as one: a share of the features each. */
static void join_threads(const struct normalized *q, long me, long all) {
    long few = FEW(q), chunks = CHUNKS(q);
    for (long j = FROM(q->features); j < TO(q->features); j++) {
        double mean = 0, squares = 0, seen = 0;
        for (long other = 0; other < all; other++) {
            const double *found = q->room + 2 * other * q->features;
            long rows = ROW_OF(chunks * (other + 1) / all) - ROW_OF(chunks * other / all);
            if (rows) join(&mean, &squares, seen, found[j], found[q->features + j], rows);
            seen += rows;
        }
        q->mean[j] = mean;
        q->variance[j] = squares / q->rows;
    }
}

void normalized_forward_share(struct work *work, long me, long all) {
    const struct normalized *q = (struct normalized *)work->p;
    long few = FEW(q), from = FROM(CHUNKS(q)), to = TO(CHUNKS(q)), seen = 0;
    double *mean = q->room + 2 * me * q->features, *squares = mean + q->features;
    float scale[q->features], shift[q->features];
    if (q->moves) {
        memset(mean, 0, 16 * q->features);
        for (long chunk = from; chunk < to; chunk++) {
            OF_CHUNK(chunk);
#define MOMENTS(HALF, V) moments(q, first, last, j, mean, squares, seen, HALF, V)
            EACH_FEATURE(MOMENTS);
            seen += last - first;
        }
        MEET;
        join_threads(q, me, all);
        MEET;
    }
    scales(q, scale, shift);
    /* What was read last is nearest. */
    for (long chunk = to - 1; chunk >= from; chunk--) {
        OF_CHUNK(chunk);
#define OUTPUTS(HALF, V) outputs(q, first, last, j, q->mean, scale, shift, HALF, V)
        EACH_FEATURE(OUTPUTS);
    }
}

void normalized_backward_share(struct work *work, long me, long all) {
    const struct normalized *q = (struct normalized *)work->p;
    long few = FEW(q), from = FROM(CHUNKS(q)), to = TO(CHUNKS(q));
    double *sums = q->room + 2 * me * q->features, *products = sums + q->features;
    float scale[q->features], shift[q->features], of_mean[q->features], of_spread[q->features];
    scales(q, scale, shift);
    memset(sums, 0, 16 * q->features);
    for (long chunk = from; chunk < to; chunk++) {
        OF_CHUNK(chunk);
#define SLOPE_SUMS(HALF, V) slope_sums(q, first, last, j, q->mean, scale, shift, sums, products, HALF, V)
        EACH_FEATURE(SLOPE_SUMS);
    }
    MEET;
    for (long j = 0; j < q->features; j++) {
        double sum = 0, product = 0, spread = q->variance[j] + *q->epsilon;
        for (long other = 0; other < all; other++) {
            sum += q->room[2 * other * q->features + j];
            product += q->room[(2 * other + 1) * q->features + j];
        }
        of_mean[j] = q->moves ? sum / q->rows : 0;
        of_spread[j] = q->moves ? product / spread / q->rows : 0;
        ALONE {
            q->beta_slopes[j] = sum;
            q->gamma_slopes[j] = product / sqrt(spread);
        }
    }
    for (long chunk = to - 1; chunk >= from && q->x_slopes; chunk--) {
        OF_CHUNK(chunk);
#define INPUT_SLOPES(HALF, V) input_slopes(q, first, last, j, q->mean, scale, shift, of_mean, of_spread, HALF, V)
        EACH_FEATURE(INPUT_SLOPES);
    }
}

ENTRY(normalized, normalized_forward)
ENTRY(normalized, normalized_backward)
