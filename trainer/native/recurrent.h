/* LSTM and GRU over whole sequences, both ways. A thread takes some rows of the batch, a few at a time, from the first
   step to the last: what it works on stays near. Gates are laid (step, row, gate * units), as in Keras. */
#define SHARED
#include "kernels.h"

#define MOST_ROWS 64
#define LANES 16
/* Numbers that have nothing to do with each other: whole vectors of them, then what is left. */
#ifdef __clang__
#define ALONGSIDE _Pragma("clang loop vectorize(assume_safety)")
#else
#define ALONGSIDE _Pragma("GCC ivdep")
#endif
#define EACH_UNIT(FUNCTION, ...)                                                                                      \
    do {                                                                                                              \
        long first = 0;                                                                                               \
        for (; first + LANES <= u; first += LANES) FUNCTION(first, LANES, u, __VA_ARGS__);                            \
        FUNCTION(first, u - first, u, __VA_ARGS__);                                                                   \
    } while (0)

/* Sizes and tensors of a call. x (batch, time, features), outputs (batch, time, units) or (batch, units), the kernel
   and below it the recurrent kernel (features + units, gates * units), both of them turned round as well; what is kept
   for the way back: the gates, and the states (time + 1, batch, units), the first of them zeros. */
struct sequence {
    long batch, time, features, units, every, backwards;
    const float *x, *kernels, *bias, *recurrent_bias;
    float *gates, *states, *carries, *outputs;
    const float *slopes, *turned;
    float *x_slopes, *sums, *kernel_slopes, *recurrent_slopes, *bias_slopes;
};

/* The step of the data that step t reads. */
INLINE long place(const struct sequence *q, long t) { return q->backwards ? q->time - 1 - t : t; }

INLINE void put_out(const struct sequence *q, const float *h, long apart, long row, long rows, long t) {
    long u = q->units;
    if (!q->every && t < q->time - 1) return;
    for (long r = 0; r < rows; r++)
        memcpy(q->outputs + (q->every ? (row + r) * q->time + t : row + r) * u, h + r * apart, 4 * u);
}

/* The slope of a state: what came back from the step after it, and what arrives at this step's output. */
INLINE void take_in(const struct sequence *q, float *dh, long row, long rows, long t) {
    long u = q->units;
    if (!q->every && t < q->time - 1) return;
    for (long r = 0; r < rows; r++) {
        const float *slope = q->slopes + (q->every ? (row + r) * q->time + t : row + r) * u;
        for (long j = 0; j < u; j++) dh[r * u + j] += slope[j];
    }
}

/* Sums of the weights' slopes of one thread: kernel, recurrent kernel, bias (two for a GRU). */
INLINE float *sums_of(const struct sequence *q, long columns, long me) {
    return q->sums + me * (q->features + q->units + 2) * columns;
}

INLINE void add_columns(float *sum, const float *slopes, long rows, long columns) {
    for (long r = 0; r < rows; r++)
        for (long j = 0; j < columns; j++) sum[j] += slopes[r * columns + j];
}

/* All threads' sums as one, each thread some numbers of it. */
INLINE void gather_sums(const struct sequence *q, long columns, long biases, long me, long all) {
    long kernel = q->features * columns, recurrent = q->units * columns, size = kernel + recurrent + biases * columns;
    for (long i = FROM(size); i < TO(size); i++) {
        float sum = 0;
        for (long other = 0; other < all; other++) sum += sums_of(q, columns, other)[i];
        if (i < kernel) q->kernel_slopes[i] = sum;
        else if (i < kernel + recurrent) q->recurrent_slopes[i - kernel] = sum;
        else q->bias_slopes[i - kernel - recurrent] = sum;
    }
}

/* A thread's rows, at most MOST_ROWS at a time. */
#define EACH_BLOCK for (long row = FROM(q->batch), rows; rows = block_of(TO(q->batch) - row), rows; row += rows)

INLINE long block_of(long rows) { return rows < MOST_ROWS ? rows : MOST_ROWS; }

INLINE void lstm_units(long first, long count, long u, float *gate, const float *old, float *to_c, float *to_h,
                       long t) {
    ALONGSIDE for (long j = first; j < first + count; j++) {
        float input = quick_sigmoid(gate[j]), forget = quick_sigmoid(gate[u + j]);
        float candidate = quick_tanh(gate[2 * u + j]), output = quick_sigmoid(gate[3 * u + j]);
        float carry = (t ? forget * old[j] : 0) + input * candidate;
        gate[j] = input;
        gate[u + j] = forget;
        gate[2 * u + j] = candidate;
        gate[3 * u + j] = output;
        to_c[j] = carry;
        to_h[j] = output * quick_tanh(carry);
    }
}

/* The input of a step and the state before it lie side by side, as their kernels lie one below the other: states are
   (time + 1, batch, features + units). */
static void lstm_forward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long u = q->units, f = q->features, both = f + u, columns = 4 * u;
    EACH_BLOCK {
        for (long t = 0; t < q->time; t++) {
            float *z = q->gates + (t * q->batch + row) * columns, *seen = q->states + (t * q->batch + row) * both;
            float *h = q->states + ((t + 1) * q->batch + row) * both + f;
            float *c = q->carries + (t * q->batch + row) * u, *new_c = q->carries + ((t + 1) * q->batch + row) * u;
            const float *x = q->x + (row * q->time + place(q, t)) * f;
            for (long r = 0; r < rows; r++) memcpy(seen + r * both, x + r * q->time * f, 4 * f);
            rows_of_product(z, columns, rows, columns, q->bias, seen, both, 1, q->kernels, columns, t ? both : f, 0);
            for (long r = 0; r < rows; r++)
                EACH_UNIT(lstm_units, z + r * columns, c + r * u, new_c + r * u, h + r * both, t);
            put_out(q, h, both, row, rows, t);
        }
    }
}

/* The gates' slopes take the gates' place. */
INLINE void lstm_slopes(long first, long count, long u, float *gate, const float *old, const float *made,
                        const float *to_h, float *to_c, long t) {
    ALONGSIDE for (long j = first; j < first + count; j++) {
        float input = gate[j], forget = gate[u + j], candidate = gate[2 * u + j], output = gate[3 * u + j];
        float squashed = quick_tanh(made[j]);
        float carry = to_c[j] + to_h[j] * output * (1 - squashed * squashed);
        gate[j] = carry * candidate * input * (1 - input);
        gate[u + j] = (t ? carry * old[j] : 0) * forget * (1 - forget);
        gate[2 * u + j] = carry * input * (1 - candidate * candidate);
        gate[3 * u + j] = to_h[j] * squashed * output * (1 - output);
        to_c[j] = carry * forget;
    }
}

static void lstm_backward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long u = q->units, f = q->features, both = f + u, columns = 4 * u;
    float *of_kernels = sums_of(q, columns, me), *of_bias = of_kernels + both * columns;
    memset(of_kernels, 0, 4 * (both + 1) * columns);
    float slopes[MOST_ROWS * both], dh[MOST_ROWS * u], dc[MOST_ROWS * u];
    EACH_BLOCK {
        memset(dh, 0, sizeof dh);
        memset(dc, 0, sizeof dc);
        for (long t = q->time - 1; t >= 0; t--) {
            float *z = q->gates + (t * q->batch + row) * columns, *seen = q->states + (t * q->batch + row) * both;
            float *c = q->carries + (t * q->batch + row) * u, *new_c = q->carries + ((t + 1) * q->batch + row) * u;
            take_in(q, dh, row, rows, t);
            for (long r = 0; r < rows; r++)
                EACH_UNIT(lstm_slopes, z + r * columns, c + r * u, new_c + r * u, dh + r * u, dc + r * u, t);
            rows_of_product(of_kernels, columns, t ? both : f, columns, 0, seen, 1, both, z, columns, rows, 1);
            add_columns(of_bias, z, rows, columns);
            if (!q->x_slopes) {
                rows_of_product(dh, u, rows, u, 0, z, columns, 1, q->turned + f, both, columns, 0);
                continue;
            }
            rows_of_product(slopes, both, rows, both, 0, z, columns, 1, q->turned, both, columns, 0);
            for (long r = 0; r < rows; r++) {
                memcpy(q->x_slopes + ((row + r) * q->time + place(q, t)) * f, slopes + r * both, 4 * f);
                memcpy(dh + r * u, slopes + r * both + f, 4 * u);
            }
        }
    }
    MEET;
    gather_sums(q, columns, 1, me, all);
}

INLINE void gru_units(long first, long count, long u, const float *a, const float *b, const float *old, float *gate,
                      float *to_h) {
    ALONGSIDE for (long j = first; j < first + count; j++) {
        float update = quick_sigmoid(a[j] + b[j]), reset = quick_sigmoid(a[u + j] + b[u + j]);
        float recalled = b[2 * u + j], candidate = quick_tanh(a[2 * u + j] + reset * recalled);
        gate[j] = update;
        gate[u + j] = reset;
        gate[2 * u + j] = candidate;
        gate[3 * u + j] = recalled;
        to_h[j] = update * old[j] + (1 - update) * candidate;
    }
}

/* A GRU whose reset gate acts after the recurrent product. Kept are update, reset, candidate and what is reset: four
   gates, where the weights have columns for three. */
static void gru_forward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long u = q->units, f = q->features, columns = 3 * u;
    float of_x[MOST_ROWS * columns], of_h[MOST_ROWS * columns];
    EACH_BLOCK {
        for (long t = 0; t < q->time; t++) {
            const float *h = q->states + (t * q->batch + row) * u;
            float *kept = q->gates + (t * q->batch + row) * 4 * u, *new_h = q->states + ((t + 1) * q->batch + row) * u;
            const float *x = q->x + (row * q->time + place(q, t)) * f;
            rows_of_product(of_x, columns, rows, columns, q->bias, x, q->time * f, 1, q->kernels, columns, f, 0);
            rows_of_product(of_h, columns, rows, columns, q->recurrent_bias, h, u, 1, q->kernels + f * columns, columns,
                            u, 0);
            for (long r = 0; r < rows; r++)
                EACH_UNIT(gru_units, of_x + r * columns, of_h + r * columns, h + r * u, kept + r * 4 * u,
                          new_h + r * u);
            put_out(q, new_h, u, row, rows, t);
        }
    }
}

INLINE void gru_slopes(long first, long count, long u, const float *gate, const float *old, const float *slope,
                       float *a, float *b, float *passed) {
    ALONGSIDE for (long j = first; j < first + count; j++) {
        float update = gate[j], reset = gate[u + j], candidate = gate[2 * u + j], recalled = gate[3 * u + j];
        float inner = slope[j] * (1 - update) * (1 - candidate * candidate);
        a[j] = b[j] = slope[j] * (old[j] - candidate) * update * (1 - update);
        a[u + j] = b[u + j] = inner * recalled * reset * (1 - reset);
        a[2 * u + j] = inner;
        b[2 * u + j] = inner * reset;
        passed[j] = slope[j] * update;
    }
}

static void gru_backward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long u = q->units, f = q->features, columns = 3 * u;
    float *of_kernel = sums_of(q, columns, me), *of_recurrent = of_kernel + f * columns;
    float *of_bias = of_recurrent + u * columns;
    memset(of_kernel, 0, 4 * (f + u + 2) * columns);
    float dh[MOST_ROWS * u], rest[MOST_ROWS * u], to_x[MOST_ROWS * columns], to_own[MOST_ROWS * columns];
    EACH_BLOCK {
        memset(dh, 0, sizeof dh);
        for (long t = q->time - 1; t >= 0; t--) {
            const float *h = q->states + (t * q->batch + row) * u, *kept = q->gates + (t * q->batch + row) * 4 * u;
            take_in(q, dh, row, rows, t);
            for (long r = 0; r < rows; r++)
                EACH_UNIT(gru_slopes, kept + r * 4 * u, h + r * u, dh + r * u, to_x + r * columns, to_own + r * columns,
                          rest + r * u);
            long from = (row * q->time + place(q, t)) * f;
            rows_of_product(of_kernel, columns, f, columns, 0, q->x + from, 1, q->time * f, to_x, columns, rows, 1);
            if (q->x_slopes)
                rows_of_product(q->x_slopes + from, q->time * f, rows, f, 0, to_x, columns, 1, q->turned, f + u,
                                columns, 0);
            add_columns(of_bias, to_x, rows, columns);
            add_columns(of_bias + columns, to_own, rows, columns);
            if (!t) break;
            rows_of_product(of_recurrent, columns, u, columns, 0, h, 1, u, to_own, columns, rows, 1);
            memcpy(dh, rest, 4 * rows * u);
            rows_of_product(dh, u, rows, u, 0, to_own, columns, 1, q->turned + f, f + u, columns, 1);
        }
    }
    MEET;
    gather_sums(q, columns, 2, me, all);
}

#define ENTRY(NAME)                                                                                                   \
    void NAME(struct sequence *q, long threads, struct team *team) {                                                  \
        struct work work = {(void **)q};                                                                              \
        together(NAME##_share, &work, threads, team);                                                                 \
    }
ENTRY(lstm_forward)
ENTRY(lstm_backward)
ENTRY(gru_forward)
ENTRY(gru_backward)
