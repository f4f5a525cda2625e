/* SimpleRNN over whole sequences, both ways: its outputs say their own slopes. */
#define SLOTS 1
#include "recurrent.h"

static const struct kind SIMPLE = {1, 1, {{0}, {0}}};

FUSED INLINE void simple_units(const float *z, float *new_h, long relu) {
    if (relu) {
        ALONGSIDE for (long l = 0; l < LANES; l++) new_h[l] = z[l] < 0 ? 0 : z[l];
    } else {
        ALONGSIDE for (long l = 0; l < LANES; l++) new_h[l] = quick_tanh(z[l]);
    }
}

void simple_forward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, both = f + q->units, padded = upward(q->units), width = padded;
    float biases[padded] ALIGNED, z[MOST_ROWS * padded] ALIGNED, seen[MOST_ROWS * both];
    lay(q, &SIMPLE, 0, me, all);
    lay_biases(q, &SIMPLE, biases);
    BEGIN;
    if (q->words) take_words(q, biases, me, all);
    EACH_BLOCK {
        take_states(q, q->states + row * padded, padded, q->first_h, row, rows);
        for (long t = 0, n = 0; t < q->time; t++) {
            AT_STEP;
            long now = computed_of(q, row, rows, n, t);
            join(q, h, n, now, padded);
            n = now;
            if (q->words) take_given_and_state(q, z, h, row, n, t, share, shares);
            else take_both(q, seen, h, row, n, t);
            if (any_drops(q)) drop_both(q, seen, seen, 0, row, n);
            for (long at = 0; at < padded && !q->words; at += LANES)
                rows_of_product(z + at, padded, n, LANES, biases + at, seen, both, 1, q->panels + at * both, LANES,
                                t || q->first_h ? both : f, 0);
            keep_states(q, new_h, h, n, rows, padded);
            for (long r = 0; r < n; r++) {
                if (!goes_on(q, row + r, t)) keep_state(new_h, h, r, padded);
                for (long j = 0; j < padded && goes_on(q, row + r, t); j += LANES)
                    simple_units(z + r * padded + j, new_h + r * padded + j, q->relu);
            }
            put_output(q, new_h, padded, row, rows, n, t);
        }
    }
    if (q->words) forget_words(q, me, all);
}

FUSED INLINE void simple_slopes(const float *new_h, const float *dh, float *dz, long relu) {
    ALONGSIDE for (long l = 0; l < LANES; l++)
        dz[l] = relu ? (new_h[l] > 0 ? dh[l] : 0) : dh[l] * (1 - new_h[l] * new_h[l]);
}

void simple_backward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, both = f + q->units, padded = upward(q->units), width = padded;
    long of_x = upward(f), apart = of_x + padded, skipped = q->x_slopes ? 0 : of_x;
    float seen[MOST_ROWS * both] ALIGNED, slopes[MOST_ROWS * apart] ALIGNED, dz[MOST_ROWS * padded] ALIGNED;
    float passed[MOST_ROWS * padded] ALIGNED, *sums = sums_of(q, me), *dh = slopes + of_x;
    lay(q, &SIMPLE, 1, me, all);
    memset(sums, 0, 4 * (both + 1) * padded);
    MEET;
    EACH_SHARE(q->words) await_words(q, share, *q->shares);
    EACH_BLOCK {
        take_states(q, dh, apart, q->last_h_slopes, row, rows);
        for (long t = q->time - 1, n = rows; t >= 0; t--) {
            AT_STEP;
            long now = computed_of(q, row, rows, n, t);
            leave(q, dh, apart, n, now);
            n = now;
            take_slopes(q, dh, apart, row, rows, n, t);
            set_aside(q, dz, padded, passed, dh, apart, row, n, t);
            for (long r = 0; r < n; r++)
                for (long j = 0; j < padded && goes_on(q, row + r, t); j += LANES)
                    simple_slopes(new_h + r * padded + j, dh + r * apart + j, dz + r * padded + j, q->relu);
            if (q->words) {
                add_given_and_state(q, sums, dz, h, row, n, t, share, shares);
            } else {
                take_both(q, seen, h, row, n, t);
                if (any_drops(q)) drop_both(q, seen, seen, 0, row, n);
                add_rows(sums + both * padded, dz, n, padded);
                rows_of_product(sums, padded, t || q->first_h ? both : f, padded, 0, seen, 1, both, dz, padded, n, 1);
            }
            rows_of_product(slopes + skipped, apart, n, apart - skipped, 0, dz, padded, 1, q->turned + skipped,
                            apart, padded, 0);
            if (q->x_slopes) drop(q, slopes, apart, slopes, apart, q->x_drops, f, 0, row, n, 0);
            drop(q, dh, apart, dh, apart, q->h_drops, q->units, 0, row, n, 0);
            put_back(q, dh, apart, passed, row, n, t);
            if (q->x_slopes) put_input_slopes(q, slopes, apart, row, rows, n, t);
        }
        put_states(q, q->first_h_slopes, dh, apart, row, rows);
    }
    WORDS_BACK;
    gather_sums(q, &SIMPLE, me, all);
}

ENTRY(sequence, simple_forward)
ENTRY(sequence, simple_backward)
