/* LSTM and GRU over whole sequences, both ways. A thread takes some rows of the batch, a few at a time, from the first
   step to the last: what it works on stays near. Sixteen units are taken together, with the numbers of all their gates
   side by side in four slots of sixteen; units that the last sixteen lack have zeros for kernels. */
#define SHARED
#include "kernels.h"

#define MOST_ROWS 64
#define LANES 16
#define SLOTS 4
#define WIDTH (SLOTS * LANES)
#define ALIGNED __attribute__((aligned(64)))
/* Numbers that have nothing to do with each other. */
#ifdef __clang__
#define ALONGSIDE _Pragma("clang loop vectorize(assume_safety)")
#else
#define ALONGSIDE _Pragma("GCC ivdep")
#endif

/* Sizes and tensors of a call. x (batch, time, features), outputs (batch, time, units) or (batch, units), kernels as in
   Keras. Laid anew by us: the kernels with columns in slots, and turned round. Kept for the way back: gates (time, batch,
   slots), and states and carries (time + 1, batch, units up to a multiple of 16), the first of them zeros. */
struct sequence {
    long batch, time, features, units, every, backwards;
    const float *x, *kernel, *recurrent, *bias, *recurrent_bias;
    float *panels, *turned, *gates, *states, *carries, *outputs;
    const float *slopes;
    float *x_slopes, *sums, *kernel_slopes, *recurrent_slopes, *bias_slopes;
};

/* How many blocks of columns kernels have, how many biases there are, and the slot of each block: for what comes from
   the input, and from the state. */
struct kind {
    long gates, biases, slots[2][SLOTS];
};
/* A GRU's candidate has two slots, since the reset gate acts on the state's part alone. */
static const struct kind LSTM = {4, 1, {{0, 1, 2, 3}, {0, 1, 2, 3}}}, GRU = {3, 2, {{1, 2, 0}, {1, 2, 3}}};

INLINE long upward(long n) { return (n + LANES - 1) / LANES * LANES; }

/* The numbers of all slots of a row. */
INLINE long width_of(const struct sequence *q) { return upward(q->units) * SLOTS; }

/* A unit's place among them. */
INLINE long place_of(long unit, long slot) { return unit / LANES * WIDTH + slot * LANES + unit % LANES; }

/* The step of the data that step t reads. */
INLINE long read_by(const struct sequence *q, long t) { return q->backwards ? q->time - 1 - t : t; }

/* Kernels laid anew: as a panel of rows for each sixteen units (panel, row of both kernels, slots), or turned round
   (slots, features up to a multiple of 16 and then units likewise). What is in no slot stays zero. */
static void lay(const struct sequence *q, const struct kind *kind, int turned, long me, long all) {
    long f = q->features, u = q->units, both = f + u, columns = kind->gates * u, apart = upward(f) + upward(u);
    for (long row = FROM(both); row < TO(both); row++) {
        const float *from = row < f ? q->kernel + row * columns : q->recurrent + (row - f) * columns;
        for (long gate = 0; gate < kind->gates; gate++)
            for (long j = 0; j < u; j++) {
                long at = place_of(j, kind->slots[row >= f][gate]);
                float *panels = q->panels + (at / WIDTH * both + row) * WIDTH + at % WIDTH;
                *(turned ? q->turned + at * apart + (row < f ? row : upward(f) + row - f) : panels) = from[gate * u + j];
            }
    }
}

/* What sums begin with. */
static void lay_biases(const struct sequence *q, const struct kind *kind, float *to) {
    const float *given[2] = {q->bias, q->recurrent_bias};
    memset(to, 0, 4 * width_of(q));
    for (long which = 0; which < kind->biases; which++)
        for (long gate = 0; given[which] && gate < kind->gates; gate++)
            for (long j = 0; j < q->units; j++)
                to[place_of(j, kind->slots[which][gate])] += given[which][gate * q->units + j];
}

INLINE void take_input(const struct sequence *q, float *to, long apart, long row, long rows, long t) {
    const float *x = q->x + (row * q->time + read_by(q, t)) * q->features;
    for (long r = 0; r < rows; r++) memcpy(to + r * apart, x + r * q->time * q->features, 4 * q->features);
}

/* Rows of outputs, or of their slopes, that step t has; none where only the last step has some. */
INLINE long output_of(const struct sequence *q, long row, long t) {
    return q->every ? (row * q->time + t) * q->units : t == q->time - 1 ? row * q->units : -1;
}

INLINE void put_output(const struct sequence *q, const float *h, long apart, long row, long rows, long t) {
    for (long r = 0; r < rows && output_of(q, row, t) >= 0; r++)
        memcpy(q->outputs + output_of(q, row + r, t), h + r * apart, 4 * q->units);
}

/* The slope of a state: what came back from the step after it, and what arrives at this step's output. */
INLINE void take_slopes(const struct sequence *q, float *dh, long apart, long row, long rows, long t) {
    for (long r = 0; r < rows && output_of(q, row, t) >= 0; r++)
        for (long j = 0; j < q->units; j++) dh[r * apart + j] += q->slopes[output_of(q, row + r, t) + j];
}

INLINE void put_input_slopes(const struct sequence *q, const float *slopes, long apart, long row, long rows, long t) {
    float *to = q->x_slopes + (row * q->time + read_by(q, t)) * q->features;
    for (long r = 0; r < rows; r++) memcpy(to + r * q->time * q->features, slopes + r * apart, 4 * q->features);
}

/* Sums of the weights' slopes of one thread: kernel, recurrent kernel, biases. */
INLINE float *sums_of(const struct sequence *q, long me) {
    return q->sums + me * (q->features + q->units + 1) * width_of(q);
}

INLINE void add_rows(float *sum, const float *slopes, long rows, long width) {
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < width; i++) sum[i] += slopes[r * width + i];
}

/* All threads' sums as one, each thread some rows of it. */
static void gather_sums(const struct sequence *q, const struct kind *kind, long me, long all) {
    long f = q->features, u = q->units, both = f + u, columns = kind->gates * u;
    for (long row = FROM(both + kind->biases); row < TO(both + kind->biases); row++) {
        float *to = row < f ? q->kernel_slopes + row * columns
                            : row < both ? q->recurrent_slopes + (row - f) * columns
                                         : q->bias_slopes + (row - both) * columns;
        const long *slots = kind->slots[row < both ? row >= f : row - both];
        long from = (row < both ? row : both) * width_of(q);
        for (long gate = 0; gate < kind->gates; gate++)
            for (long j = 0; j < u; j++) {
                float sum = 0;
                for (long other = 0; other < all; other++) sum += sums_of(q, other)[from + place_of(j, slots[gate])];
                to[gate * u + j] = sum;
            }
    }
}

/* A thread's rows, at most MOST_ROWS at a time. */
#define EACH_BLOCK for (long row = FROM(q->batch), rows; rows = block_of(TO(q->batch) - row), rows; row += rows)

INLINE long block_of(long rows) { return rows < MOST_ROWS ? rows : MOST_ROWS; }

/* Where the numbers of step t and of a block's first row lie: slots, and states. */
#define AT_STEP                                                                                                       \
    float *gates = q->gates + (t * q->batch + row) * width, *h = q->states + (t * q->batch + row) * padded;           \
    float *new_h = h + q->batch * padded

FUSED INLINE void lstm_units(const float *z, float *gate, const float *c, float *new_c, float *new_h, float *next) {
    ALONGSIDE for (long l = 0; l < LANES; l++) {
        float input = quick_sigmoid(z[l]), forget = quick_sigmoid(z[LANES + l]);
        float candidate = quick_tanh(z[2 * LANES + l]), output = quick_sigmoid(z[3 * LANES + l]);
        float carry = forget * c[l] + input * candidate;
        gate[l] = input;
        gate[LANES + l] = forget;
        gate[2 * LANES + l] = candidate;
        gate[3 * LANES + l] = output;
        new_c[l] = carry;
        new_h[l] = next[l] = output * quick_tanh(carry);
    }
}

/* The input of a step and the state before it lie side by side, as their kernels lie one below the other. */
static void lstm_forward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, both = f + q->units, padded = upward(q->units), width = width_of(q), apart = f + padded;
    float biases[width] ALIGNED, z[MOST_ROWS * WIDTH] ALIGNED, seen[2][MOST_ROWS * apart];
    lay(q, &LSTM, 0, me, all);
    lay_biases(q, &LSTM, biases);
    MEET;
    EACH_BLOCK {
        for (long t = 0; t < q->time; t++) {
            AT_STEP;
            float *c = q->carries + (t * q->batch + row) * padded, *new_c = c + q->batch * padded;
            float *now = seen[t % 2], *next = seen[1 - t % 2] + f;
            take_input(q, now, apart, row, rows, t);
            for (long j = 0; j < padded; j += LANES) {
                rows_of_product(z, WIDTH, rows, WIDTH, biases + j * SLOTS, now, apart, 1, q->panels + j * SLOTS * both,
                                WIDTH, t ? both : f, 0);
                for (long r = 0; r < rows; r++)
                    lstm_units(z + r * WIDTH, gates + r * width + j * SLOTS, c + r * padded + j, new_c + r * padded + j,
                               new_h + r * padded + j, next + r * apart + j);
            }
            put_output(q, next, apart, row, rows, t);
        }
    }
}

/* The squashed carry is what the output gate was multiplied by; where that is next to nothing, so are its slopes. */
FUSED INLINE void lstm_slopes(const float *gate, const float *c, const float *new_h, const float *dh, float *dc,
                              float *dz) {
    ALONGSIDE for (long l = 0; l < LANES; l++) {
        float input = gate[l], forget = gate[LANES + l], candidate = gate[2 * LANES + l], output = gate[3 * LANES + l];
        float squashed = output > 1e-30f ? new_h[l] / output : 0;
        float carry = dc[l] + dh[l] * output * (1 - squashed * squashed);
        dz[l] = carry * candidate * input * (1 - input);
        dz[LANES + l] = carry * c[l] * forget * (1 - forget);
        dz[2 * LANES + l] = carry * input * (1 - candidate * candidate);
        dz[3 * LANES + l] = dh[l] * squashed * output * (1 - output);
        dc[l] = carry * forget;
    }
}

static void lstm_backward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, u = q->units, both = f + u, padded = upward(u), width = width_of(q);
    long of_x = upward(f), apart = of_x + padded, skipped = q->x_slopes ? 0 : of_x;
    float seen[MOST_ROWS * both] ALIGNED, slopes[MOST_ROWS * apart] ALIGNED, dc[MOST_ROWS * padded] ALIGNED;
    float dz[MOST_ROWS * width] ALIGNED, *sums = sums_of(q, me), *dh = slopes + of_x;
    lay(q, &LSTM, 1, me, all);
    memset(sums, 0, 4 * (both + 1) * width);
    MEET;
    EACH_BLOCK {
        memset(slopes, 0, sizeof slopes);
        memset(dc, 0, sizeof dc);
        for (long t = q->time - 1; t >= 0; t--) {
            AT_STEP;
            const float *c = q->carries + (t * q->batch + row) * padded;
            take_slopes(q, dh, apart, row, rows, t);
            for (long r = 0; r < rows; r++)
                for (long j = 0; j < padded; j += LANES)
                    lstm_slopes(gates + r * width + j * SLOTS, c + r * padded + j, new_h + r * padded + j,
                                dh + r * apart + j, dc + r * padded + j, dz + r * width + j * SLOTS);
            take_input(q, seen, both, row, rows, t);
            for (long r = 0; r < rows; r++) memcpy(seen + r * both + f, h + r * padded, 4 * u);
            rows_of_product(sums, width, t ? both : f, width, 0, seen, 1, both, dz, width, rows, 1);
            add_rows(sums + both * width, dz, rows, width);
            rows_of_product(slopes + skipped, apart, rows, apart - skipped, 0, dz, width, 1, q->turned + skipped, apart,
                            width, 0);
            if (q->x_slopes) put_input_slopes(q, slopes, apart, row, rows, t);
        }
    }
    MEET;
    gather_sums(q, &LSTM, me, all);
}

FUSED INLINE void gru_units(const float *z, float *gate, const float *h, float *new_h) {
    ALONGSIDE for (long l = 0; l < LANES; l++) {
        float update = quick_sigmoid(z[LANES + l]), reset = quick_sigmoid(z[2 * LANES + l]);
        float recalled = z[3 * LANES + l], candidate = quick_tanh(z[l] + reset * recalled);
        gate[l] = candidate;
        gate[LANES + l] = update;
        gate[2 * LANES + l] = reset;
        gate[3 * LANES + l] = recalled;
        new_h[l] = update * h[l] + (1 - update) * candidate;
    }
}

/* Slots of a GRU that the input has a part in, and where those begin that the state has one in. */
#define OF_INPUT (3 * LANES)
#define OF_STATE LANES

/* A GRU whose reset gate acts after the recurrent product. */
static void gru_forward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, both = f + q->units, padded = upward(q->units), width = width_of(q);
    float biases[width] ALIGNED, z[MOST_ROWS * WIDTH] ALIGNED;
    lay(q, &GRU, 0, me, all);
    lay_biases(q, &GRU, biases);
    MEET;
    EACH_BLOCK {
        for (long t = 0; t < q->time; t++) {
            AT_STEP;
            const float *x = q->x + (row * q->time + read_by(q, t)) * f;
            for (long j = 0; j < padded; j += LANES) {
                const float *panel = q->panels + j * SLOTS * both, *bias = biases + j * SLOTS;
                rows_of_product(z, WIDTH, rows, OF_INPUT, bias, x, q->time * f, 1, panel, WIDTH, f, 0);
                for (long r = 0; r < rows; r++) memcpy(z + r * WIDTH + OF_INPUT, bias + OF_INPUT, 4 * LANES);
                if (t)
                    rows_of_product(z + OF_STATE, WIDTH, rows, WIDTH - OF_STATE, 0, h, padded, 1,
                                    panel + f * WIDTH + OF_STATE, WIDTH, q->units, 1);
                for (long r = 0; r < rows; r++)
                    gru_units(z + r * WIDTH, gates + r * width + j * SLOTS, h + r * padded + j, new_h + r * padded + j);
            }
            put_output(q, new_h, padded, row, rows, t);
        }
    }
}

/* The slope of the state before, without what comes by the gates, takes the place of dh. */
FUSED INLINE void gru_slopes(const float *gate, const float *h, float *dh, float *dz) {
    ALONGSIDE for (long l = 0; l < LANES; l++) {
        float candidate = gate[l], update = gate[LANES + l], reset = gate[2 * LANES + l], recalled = gate[3 * LANES + l];
        float inner = dh[l] * (1 - update) * (1 - candidate * candidate);
        dz[l] = inner;
        dz[LANES + l] = dh[l] * (h[l] - candidate) * update * (1 - update);
        dz[2 * LANES + l] = inner * recalled * reset * (1 - reset);
        dz[3 * LANES + l] = inner * reset;
        dh[l] *= update;
    }
}

static void gru_backward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, u = q->units, padded = upward(u), width = width_of(q), of_x = upward(f), apart = of_x + padded;
    float dh[MOST_ROWS * padded] ALIGNED, dx[MOST_ROWS * of_x] ALIGNED, dz[MOST_ROWS * width] ALIGNED;
    float *sums = sums_of(q, me);
    lay(q, &GRU, 1, me, all);
    memset(sums, 0, 4 * (f + u + 1) * width);
    MEET;
    EACH_BLOCK {
        memset(dh, 0, sizeof dh);
        for (long t = q->time - 1; t >= 0; t--) {
            AT_STEP;
            const float *x = q->x + (row * q->time + read_by(q, t)) * f;
            take_slopes(q, dh, padded, row, rows, t);
            for (long r = 0; r < rows; r++)
                for (long j = 0; j < padded; j += LANES)
                    gru_slopes(gates + r * width + j * SLOTS, h + r * padded + j, dh + r * padded + j,
                               dz + r * width + j * SLOTS);
            add_rows(sums + (f + u) * width, dz, rows, width);
            for (long at = 0; at < width; at += WIDTH) {
                const float *of_state = dz + at + OF_STATE, *turned = q->turned + at * apart;
                rows_of_product(sums + at, width, f, OF_INPUT, 0, x, 1, q->time * f, dz + at, width, rows, 1);
                if (q->x_slopes)
                    rows_of_product(dx, of_x, rows, of_x, 0, dz + at, width, 1, turned, apart, OF_INPUT, at > 0);
                if (!t) continue;
                rows_of_product(sums + f * width + at + OF_STATE, width, u, WIDTH - OF_STATE, 0, h, 1, padded, of_state,
                                width, rows, 1);
                rows_of_product(dh, padded, rows, padded, 0, of_state, width, 1, turned + OF_STATE * apart + of_x, apart,
                                WIDTH - OF_STATE, 1);
            }
            if (q->x_slopes) put_input_slopes(q, dx, of_x, row, rows, t);
        }
    }
    MEET;
    gather_sums(q, &GRU, me, all);
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
