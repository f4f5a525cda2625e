/* GRU over whole sequences, both ways; the reset gate acts after the recurrent product. */
#include "recurrent.h"

/* The candidate has two slots, since the reset gate acts on the state's part alone. */
static const struct kind GRU = {3, 2, {{1, 2, 0}, {1, 2, 3}}};

FUSED INLINE void gru_gates(const float *z, float *gate) {
    ALONGSIDE for (long l = 0; l < LANES; l++) {
        gate[LANES + l] = quick_sigmoid(z[LANES + l]);
        gate[2 * LANES + l] = quick_sigmoid(z[2 * LANES + l]);
        gate[3 * LANES + l] = z[3 * LANES + l];
    }
}

/* In a pass of its own: a tanh that waits for the reset gate holds up whatever is behind it. */
FUSED INLINE void gru_states(const float *z, float *gate, const float *h, float *new_h) {
    ALONGSIDE for (long l = 0; l < LANES; l++) {
        float update = gate[LANES + l], candidate = quick_tanh(z[l] + gate[2 * LANES + l] * gate[3 * LANES + l]);
        gate[l] = candidate;
        new_h[l] = update * h[l] + (1 - update) * candidate;
    }
}

/* Input as it lies where rows are taken as they come, and a copy elsewhere; none for words. */
INLINE const float *inputs_at(const struct sequence *q, float *taken, long *apart, long row, long rows, long t) {
    *apart = q->counts ? q->features : q->time * q->features;
    if (q->words || !q->counts) return q->words ? 0 : input_at(q, row, t);
    take_input(q, taken, *apart, row, rows, t);
    return taken;
}

/* Columns of a part of the state or the input, all at once or by their gates; see `drop`. */
#define EACH_PART(DROPS) for (long gate = 0, columns = DROPS ? LANES : 3 * LANES; gate < (DROPS ? 3 : 1); gate++)

void gru_forward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, u = q->units, both = f + u, padded = upward(u), width = width_of(q);
    float biases[width] ALIGNED, z[MOST_ROWS * width] ALIGNED, seen[MOST_ROWS * (both + LANES)];
    float taken[q->counts ? MOST_ROWS * f : 1] ALIGNED;
    lay(q, &GRU, 0, me, all);
    lay_biases(q, &GRU, biases);
    BEGIN;
    if (q->words) take_words(q, biases, me, all);
    EACH_BLOCK {
        take_states(q, q->states + row * padded, padded, q->first_h, row, rows);
        for (long t = 0, n = 0; t < q->time; t++) {
            AT_STEP;
            long now = computed_of(q, row, rows, n, t);
            join(q, h, n, now, padded);
            n = now;
            long x_apart;
            const float *x = inputs_at(q, taken, &x_apart, row, n, t);
            if (q->words) take_given(q, z, row, n, t, share, shares);
            for (long r = 0; r < n && !q->words; r++) memcpy(z + r * width, biases, 4 * width);
            EACH_PART(q->x_drops) {
                if (q->words) break;
                long slot = q->x_drops ? GRU.slots[0][gate] : 0;
                if (q->x_drops) drop(q, seen, f, x, x_apart, q->x_drops, f, gate, row, n, 0);
                for (long at = slot * LANES; at < width; at += WIDTH)
                    rows_of_product(z + at, width, n, columns, 0, q->x_drops ? seen : x, q->x_drops ? f : x_apart, 1,
                                    q->panels + at / WIDTH * WIDTH * both + at % WIDTH, WIDTH, f, 1);
            }
            EACH_PART(q->h_drops) {
                long slot = q->h_drops ? GRU.slots[1][gate] : 1;
                if (!t && !q->first_h) break;
                if (q->h_drops) drop(q, seen, padded, h, padded, q->h_drops, u, gate, row, n, 0);
                for (long at = slot * LANES; at < width; at += WIDTH)
                    rows_of_product(z + at, width, n, columns, 0, q->h_drops ? seen : h, padded, 1,
                                    q->panels + (at / WIDTH * both + f) * WIDTH + at % WIDTH, WIDTH, u, 1);
            }
            keep_states(q, new_h, h, n, rows, padded);
            for (long r = 0; r < n; r++) {
                if (!goes_on(q, row + r, t)) keep_state(new_h, h, r, padded);
                for (long j = 0; j < width && goes_on(q, row + r, t); j += WIDTH)
                    gru_gates(z + r * width + j, gates + r * width + j);
            }
            for (long r = 0; r < n; r++)
                for (long j = 0; j < padded && goes_on(q, row + r, t); j += LANES)
                    gru_states(z + r * width + j * SLOTS, gates + r * width + j * SLOTS, h + r * padded + j,
                               new_h + r * padded + j);
            put_output(q, new_h, padded, row, rows, n, t);
        }
    }
    if (q->words) forget_words(q, me, all);
}

/* The slope of the state before, without what comes by the gates, takes the place of dh. */
FUSED INLINE void gru_slopes(const float *gate, const float *h, float *dh, float *dz) {
    ALONGSIDE for (long l = 0; l < LANES; l++) {
        float candidate = gate[l], update = gate[LANES + l], reset = gate[2 * LANES + l];
        float recalled = gate[3 * LANES + l];
        float inner = dh[l] * (1 - update) * (1 - candidate * candidate);
        dz[l] = inner;
        dz[LANES + l] = dh[l] * (h[l] - candidate) * update * (1 - update);
        dz[2 * LANES + l] = inner * recalled * reset * (1 - reset);
        dz[3 * LANES + l] = inner * reset;
        dh[l] *= update;
    }
}

void gru_backward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, u = q->units, padded = upward(u), width = width_of(q);
    long of_x = upward(f), apart = of_x + padded;
    float dh[MOST_ROWS * padded] ALIGNED, dx[MOST_ROWS * of_x] ALIGNED, dz[MOST_ROWS * width] ALIGNED;
    float taken[q->counts ? MOST_ROWS * f : 1] ALIGNED;
    float seen[MOST_ROWS * apart] ALIGNED, of_gate[MOST_ROWS * apart] ALIGNED, *sums = sums_of(q, me);
    lay(q, &GRU, 1, me, all);
    memset(sums, 0, 4 * (f + u + 1) * width);
    MEET;
    EACH_SHARE(q->words) await_words(q, share, *q->shares);
    EACH_BLOCK {
        take_states(q, dh, padded, q->last_h_slopes, row, rows);
        for (long t = q->time - 1, n = rows; t >= 0; t--) {
            AT_STEP;
            long now = computed_of(q, row, rows, n, t);
            leave(q, dh, padded, n, now);
            n = now;
            long x_apart;
            const float *x = inputs_at(q, taken, &x_apart, row, n, t);
            take_slopes(q, dh, padded, row, rows, n, t);
            set_aside(q, dz, width, 0, dh, padded, row, n, t);
            for (long r = 0; r < n; r++) {
                foresee(q, gates + r * width, h + r * padded, 0, row + r, t);
                for (long j = 0; j < padded && goes_on(q, row + r, t); j += LANES)
                    gru_slopes(gates + r * width + j * SLOTS, h + r * padded + j, dh + r * padded + j,
                               dz + r * width + j * SLOTS);
            }
            if (q->words) add_given(q, dz, row, n, t, share, shares);
            else add_rows(sums + (f + u) * width, dz, n, width);
            if (q->x_slopes) memset(dx, 0, 4 * n * of_x);
            EACH_PART(q->x_drops) {
                if (q->words) break;
                long slot = q->x_drops ? GRU.slots[0][gate] : 0;
                if (q->x_drops) drop(q, seen, f, x, x_apart, q->x_drops, f, gate, row, n, 0);
                for (long at = slot * LANES; at < width; at += WIDTH)
                    rows_of_product(sums + at, width, f, columns, 0, q->x_drops ? seen : x, 1, q->x_drops ? f : x_apart,
                                    dz + at, width, n, 1);
                for (long at = slot * LANES; at < width && q->x_slopes; at += WIDTH)
                    rows_of_product(q->x_drops ? of_gate : dx, of_x, n, of_x, 0, dz + at, width, 1,
                                    q->turned + at * apart, apart, columns, !q->x_drops || at >= WIDTH);
                if (q->x_drops && q->x_slopes) drop(q, dx, of_x, of_gate, of_x, q->x_drops, f, gate, row, n, 1);
            }
            EACH_PART(q->h_drops) {
                long slot = q->h_drops ? GRU.slots[1][gate] : 1;
                if (!t && !q->first_h) break;
                if (q->h_drops) drop(q, seen, padded, h, padded, q->h_drops, u, gate, row, n, 0);
                for (long at = slot * LANES; at < width; at += WIDTH)
                    rows_of_product(sums + f * width + at, width, u, columns, 0, q->h_drops ? seen : h, 1, padded,
                                    dz + at, width, n, 1);
                for (long at = slot * LANES; at < width; at += WIDTH)
                    rows_of_product(q->h_drops ? of_gate : dh, padded, n, padded, 0, dz + at, width, 1,
                                    q->turned + at * apart + of_x, apart, columns, !q->h_drops || at >= WIDTH);
                if (q->h_drops) drop(q, dh, padded, of_gate, padded, q->h_drops, u, gate, row, n, 1);
            }
            if (q->x_slopes) put_input_slopes(q, dx, of_x, row, rows, n, t);
        }
        put_states(q, q->first_h_slopes, dh, padded, row, rows);
    }
    WORDS_BACK;
    gather_sums(q, &GRU, me, all);
}

ENTRY(sequence, gru_forward)
ENTRY(sequence, gru_backward)
