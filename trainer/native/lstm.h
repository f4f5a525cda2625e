/* LSTM over whole sequences, both ways. */
#include "recurrent.h"

static const struct kind LSTM = {4, 1, {{0, 1, 2, 3}, {0, 1, 2, 3}}};

FUSED INLINE void lstm_gates(const float *z, float *gate, const float *c, float *new_c) {
    ALONGSIDE for (long l = 0; l < LANES; l++) {
        float input = quick_sigmoid(z[l]), forget = quick_sigmoid(z[LANES + l]);
        float candidate = quick_tanh(z[2 * LANES + l]), output = quick_sigmoid(z[3 * LANES + l]);
        gate[l] = input;
        gate[LANES + l] = forget;
        gate[2 * LANES + l] = candidate;
        gate[3 * LANES + l] = output;
        new_c[l] = forget * c[l] + input * candidate;
    }
}

/* In a pass of its own: a tanh that waits for the carry holds up whatever is behind it. */
FUSED INLINE void lstm_states(const float *gate, const float *new_c, float *new_h) {
    ALONGSIDE for (long l = 0; l < LANES; l++) new_h[l] = gate[3 * LANES + l] * quick_tanh(new_c[l]);
}

/* With drops each gate has a product of its own, otherwise all four have one. */
void lstm_forward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, both = f + q->units, padded = upward(q->units), width = width_of(q);
    long drops = any_drops(q), gates_at_once = drops ? 1 : SLOTS, columns = gates_at_once * LANES;
    float biases[width] ALIGNED, z[MOST_ROWS * width] ALIGNED, seen[MOST_ROWS * both], dropped[MOST_ROWS * both];
    lay(q, &LSTM, 0, me, all);
    lay_biases(q, &LSTM, biases);
    BEGIN;
    if (q->words) take_words(q, biases, me, all);
    EACH_BLOCK {
        take_states(q, q->states + row * padded, padded, q->first_h, row, rows);
        take_states(q, q->carries + row * padded, padded, q->first_c, row, rows);
        for (long t = 0, n = 0; t < q->time; t++) {
            AT_STEP;
            float *c = q->carries + (state_at(q, t) * q->batch + row) * padded;
            float *new_c = q->carries + (state_at(q, t + 1) * q->batch + row) * padded;
            long now = computed_of(q, row, rows, n, t);
            join(q, h, n, now, padded);
            join(q, c, n, now, padded);
            n = now;
            if (q->words) take_given_and_state(q, z, h, row, n, t, share, shares);
            else take_both(q, seen, h, row, n, t);
            for (long gate = 0; gate < SLOTS && !q->words; gate += gates_at_once) {
                if (drops) drop_both(q, dropped, seen, gate, row, n);
                for (long at = gate * LANES; at < width; at += WIDTH)
                    rows_of_product(z + at, width, n, columns, biases + at, drops ? dropped : seen, both, 1,
                                    q->panels + at / WIDTH * WIDTH * both + gate * LANES, WIDTH,
                                    t || q->first_h ? both : f, 0);
            }
            keep_states(q, new_c, c, n, rows, padded);
            keep_states(q, new_h, h, n, rows, padded);
            for (long r = 0; r < n; r++) {
                if (!goes_on(q, row + r, t)) {
                    keep_state(new_c, c, r, padded);
                    keep_state(new_h, h, r, padded);
                }
                for (long j = 0; j < padded && goes_on(q, row + r, t); j += LANES)
                    lstm_gates(z + r * width + j * SLOTS, gates + r * width + j * SLOTS, c + r * padded + j,
                               new_c + r * padded + j);
            }
            for (long r = 0; r < n; r++)
                for (long j = 0; j < padded && goes_on(q, row + r, t); j += LANES)
                    lstm_states(gates + r * width + j * SLOTS, new_c + r * padded + j, new_h + r * padded + j);
            put_output(q, new_h, padded, row, rows, n, t);
        }
    }
    if (q->words) forget_words(q, me, all);
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

void lstm_backward_share(struct work *work, long me, long all) {
    const struct sequence *q = (struct sequence *)work->p;
    long f = q->features, u = q->units, both = f + u, padded = upward(u), width = width_of(q);
    long drops = any_drops(q), gates_at_once = drops ? 1 : SLOTS, columns = gates_at_once * LANES;
    long of_x = upward(f), apart = of_x + padded, skipped = q->x_slopes ? 0 : of_x;
    float seen[MOST_ROWS * both] ALIGNED, dropped[MOST_ROWS * both] ALIGNED, slopes[MOST_ROWS * apart] ALIGNED;
    float of_gate[MOST_ROWS * apart] ALIGNED, dc[MOST_ROWS * padded] ALIGNED, passed[MOST_ROWS * padded] ALIGNED;
    float dz[MOST_ROWS * width] ALIGNED, *sums = sums_of(q, me), *dh = slopes + of_x;
    lay(q, &LSTM, 1, me, all);
    memset(sums, 0, 4 * (both + 1) * width);
    MEET;
    EACH_SHARE(q->words) await_words(q, share, *q->shares);
    EACH_BLOCK {
        take_states(q, dh, apart, q->last_h_slopes, row, rows);
        take_states(q, dc, padded, q->last_c_slopes, row, rows);
        for (long t = q->time - 1, n = rows; t >= 0; t--) {
            AT_STEP;
            long now = computed_of(q, row, rows, n, t);
            leave(q, dh, apart, n, now);
            leave(q, dc, padded, n, now);
            n = now;
            const float *c = q->carries + (t * q->batch + row) * padded;
            take_slopes(q, dh, apart, row, rows, n, t);
            set_aside(q, dz, width, passed, dh, apart, row, n, t);
            for (long r = 0; r < n; r++) {
                foresee(q, gates + r * width, h + r * padded, c + r * padded, row + r, t);
                for (long j = 0; j < padded && goes_on(q, row + r, t); j += LANES)
                    lstm_slopes(gates + r * width + j * SLOTS, c + r * padded + j, new_h + r * padded + j,
                                dh + r * apart + j, dc + r * padded + j, dz + r * width + j * SLOTS);
            }
            if (q->words) {
                add_given_and_state(q, sums, dz, h, row, n, t, share, shares);
            } else {
                take_both(q, seen, h, row, n, t);
                add_rows(sums + both * width, dz, n, width);
            }
            if (drops) memset(slopes, 0, 4 * n * apart);
            for (long gate = 0; gate < SLOTS && !q->words; gate += gates_at_once) {
                if (drops) drop_both(q, dropped, seen, gate, row, n);
                for (long at = gate * LANES; at < width; at += WIDTH)
                    rows_of_product(sums + at, width, t || q->first_h ? both : f, columns, 0, drops ? dropped : seen, 1,
                                    both, dz + at, width, n, 1);
                if (!drops) break;
                for (long at = gate * LANES; at < width; at += WIDTH)
                    rows_of_product(of_gate + skipped, apart, n, apart - skipped, 0, dz + at, width, 1,
                                    q->turned + at * apart + skipped, apart, LANES, at >= WIDTH);
                if (q->x_slopes) drop(q, slopes, apart, of_gate, apart, q->x_drops, f, gate, row, n, 1);
                drop(q, dh, apart, of_gate + of_x, apart, q->h_drops, u, gate, row, n, 1);
            }
            if (!drops)
                rows_of_product(slopes + skipped, apart, n, apart - skipped, 0, dz, width, 1, q->turned + skipped,
                                apart, width, 0);
            put_back(q, dh, apart, passed, row, n, t);
            if (q->x_slopes) put_input_slopes(q, slopes, apart, row, rows, n, t);
        }
        put_states(q, q->first_h_slopes, dh, apart, row, rows);
        put_states(q, q->first_c_slopes, dc, padded, row, rows);
    }
    WORDS_BACK;
    gather_sums(q, &LSTM, me, all);
}

ENTRY(sequence, lstm_forward)
ENTRY(sequence, lstm_backward)
