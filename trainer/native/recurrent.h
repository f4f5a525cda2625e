/* What layers share that go over whole sequences, both ways. A thread takes some rows of the batch, a few at a time,
   from the first step to the last: what it works on stays near. Sixteen units are taken together, with the numbers of
   all their gates side by side in slots of sixteen, four if nothing else is said; units that the last sixteen lack have
   zeros for kernels. */
#define SHARED
#define WHOLE_VECTORS 1
#include "kernels.h"
#include "halves.h"

#define MOST_ROWS 64
#define LANES 16
#ifndef SLOTS
#define SLOTS 4
#endif
#define WIDTH (SLOTS * LANES)
#define ALIGNED __attribute__((aligned(64)))
/* Numbers that have nothing to do with each other. */
#ifdef __clang__
#define ALONGSIDE _Pragma("clang loop vectorize(assume_safety)")
#else
#define ALONGSIDE _Pragma("GCC ivdep")
#endif

/* Sizes and tensors of a call. x (batch, time, features), outputs (batch, time, units) or (batch, units), kernels as in
   Keras; `counts` (batch, time) says at which steps a row goes on: elsewhere it keeps its states; first states (batch,
   units) are zeros where none are given. Drops are factors of what each gate sees of input and state: (gates, batch,
   features) and (gates, batch, units), or none. Laid anew by us: the kernels with columns in slots, and turned round.
   Kept for the way back, if it `keeps`: gates (time, batch, slots), states and carries (time + 1, batch, units up to a
   multiple of 16); otherwise there is room for the gates of one step and the states of two.
   With `words` there is no x but ids (batch, time) of vectors in a table (words, features), whose slopes are wanted or
   not; they are read as bfloat16 where the layer `rounds` them. A share of the rows has words of its own: `counted` of
   them, in `own`, and their places there by word, (shares, words), -1 for all others and between calls; `given` is what
   they give the gates (own words of all shares, slots), and on the way back the slopes of that.
   Rows are taken in an order that `spares` steps which they are filled up with, see `put_in_order`; gates, states and
   carries lie in it, all else by rows. */
struct sequence {
    long batch, time, features, units, every, backwards, keeps, relu, words, rounds, spares;
    const float *x, *kernel, *recurrent, *bias, *recurrent_bias, *first_h, *first_c, *x_drops, *h_drops;
    const unsigned char *counts;
    const whole *ids;
    const float *table;
    int *places, *own, *counted, *spans, *shares;
    float *given, *table_slopes;
    float *panels, *turned, *gates, *states, *carries, *outputs;
    const float *slopes, *last_h_slopes, *last_c_slopes;
    float *x_slopes, *first_h_slopes, *first_c_slopes, *sums, *kernel_slopes, *recurrent_slopes, *bias_slopes;
};

/* How many blocks of columns kernels have, how many biases there are, and the slot of each block: for what comes from
   the input, and from the state. */
struct kind {
    long gates, biases, slots[2][SLOTS];
};

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
                float *in_turned = q->turned + at * apart + (row < f ? row : upward(f) + row - f);
                float *in_panels = q->panels + (at / WIDTH * both + row) * WIDTH + at % WIDTH;
                *(turned ? in_turned : in_panels) = from[gate * u + j];
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

/* The row at a place of the order. */
INLINE long row_at(const struct sequence *q, long place) { return q->spans[place]; }

/* From which step on the row at a place is computed, and up to which. */
INLINE int *begins_of(const struct sequence *q) { return q->spans + q->batch; }
INLINE int *ends_of(const struct sequence *q) { return q->spans + 2 * q->batch; }

/* How many steps of a row, by rows, need no computing where it begins, and where it ends. */
INLINE int *leads_of(const struct sequence *q) { return q->spans + 3 * q->batch; }
INLINE int *tails_of(const struct sequence *q) { return q->spans + 4 * q->batch; }

INLINE const float *input_at(const struct sequence *q, long place, long t) {
    return q->x + (row_at(q, place) * q->time + read_by(q, t)) * q->features;
}

INLINE void take_input(const struct sequence *q, float *to, long apart, long row, long rows, long t) {
    for (long r = 0; r < rows; r++) memcpy(to + r * apart, input_at(q, row + r, t), 4 * q->features);
}

/* Input and state side by side, as their kernels lie one below the other. */
INLINE void take_both(const struct sequence *q, float *to, const float *h, long row, long rows, long t) {
    long f = q->features, u = q->units;
    take_input(q, to, f + u, row, rows, t);
    for (long r = 0; r < rows; r++) memcpy(to + r * (f + u) + f, h + r * upward(u), 4 * u);
}

INLINE int any_drops(const struct sequence *q) { return q->x_drops || q->h_drops; }

/* What a gate sees of n numbers of each row, by the drops of these; or the way back, which adds up. */
INLINE void drop(const struct sequence *q, float *to, long to_apart, const float *from, long apart, const float *drops,
                 long n, long gate, long row, long rows, int add) {
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < n; i++) {
            float seen = from[r * apart + i] * (drops ? drops[(gate * q->batch + row_at(q, row + r)) * n + i] : 1);
            to[r * to_apart + i] = add ? to[r * to_apart + i] + seen : seen;
        }
}

/* What a gate sees of input and state. */
INLINE void drop_both(const struct sequence *q, float *to, const float *from, long gate, long row, long rows) {
    long f = q->features, u = q->units, both = f + u;
    drop(q, to, both, from, both, q->x_drops, f, gate, row, rows, 0);
    drop(q, to + f, both, from + f, both, q->h_drops, u, gate, row, rows, 0);
}

/* Whether a row goes on at step t. */
INLINE int goes_on(const struct sequence *q, long place, long t) {
    return !q->counts || q->counts[row_at(q, place) * q->time + read_by(q, t)];
}

/* Whether rows that begin with the same ids have the same states until these end: one of them then goes first, and
   stands for those that have not yet joined it. */
INLINE int led(const struct sequence *q) {
    return q->words && !q->counts && !q->first_h && !q->x_drops && !q->h_drops;
}

/* The row of a block whose numbers those of row r are, where the first n are computed. */
INLINE long stands_for(const struct sequence *q, long r, long n) { return r < n || !led(q) ? r : 0; }

/* Where the output of step t, or its slopes, lie; nowhere where only the last step has one. */
INLINE long output_of(const struct sequence *q, long place, long t) {
    long row = row_at(q, place);
    return q->every ? (row * q->time + t) * q->units : t == q->time - 1 ? row * q->units : -1;
}

INLINE void put_output(const struct sequence *q, const float *h, long apart, long row, long rows, long n, long t) {
    for (long r = 0; r < rows && output_of(q, row, t) >= 0; r++)
        memcpy(q->outputs + output_of(q, row + r, t), h + stands_for(q, r, n) * apart, 4 * q->units);
}

/* The slope of a state: what came back from the step after it, and what arrives at this step's output. */
INLINE void take_slopes(const struct sequence *q, float *dh, long apart, long row, long rows, long n, long t) {
    for (long r = 0; r < rows && q->slopes && output_of(q, row, t) >= 0; r++) {
        float *to = dh + stands_for(q, r, n) * apart;
        for (long j = 0; j < q->units; j++) to[j] += q->slopes[output_of(q, row + r, t) + j];
    }
}

/* A row that is not computed sends nothing back to its input. */
INLINE void put_input_slopes(const struct sequence *q, const float *slopes, long apart, long row, long rows, long n,
                             long t) {
    for (long r = 0; r < rows; r++) {
        float *to = q->x_slopes + (row_at(q, row + r) * q->time + read_by(q, t)) * q->features;
        if (r < n) memcpy(to, slopes + r * apart, 4 * q->features);
        else memset(to, 0, 4 * q->features);
    }
}

/* Sums of the weights' slopes of one thread: kernel, recurrent kernel, biases. */
INLINE float *sums_of(const struct sequence *q, long me) {
    return q->sums + me * (q->features + q->units + 1) * width_of(q);
}

INLINE void add_rows(float *sum, const float *slopes, long rows, long width) {
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < width; i++) sum[i] += slopes[r * width + i];
}

INLINE long block_of(long rows) { return rows < MOST_ROWS ? rows : MOST_ROWS; }

/* The first place of a share. */
INLINE long share_from(const struct sequence *q, long share, long shares) { return q->batch * share / shares; }

INLINE int *places_of(const struct sequence *q, long share) { return q->places + share * q->words; }

/* Where a share's own words begin among those of all: as many may be its own as its rows have ids, or as there are. */
INLINE long own_from(const struct sequence *q, long share, long shares) {
    return q->batch * q->time < shares * q->words ? share_from(q, share, shares) * q->time : share * q->words;
}

INLINE float *given_of(const struct sequence *q, long share, long shares) {
    return q->given + own_from(q, share, shares) * width_of(q);
}

/* Steps at either end of rows that change no state, and those where a row reads id 0 from the first step on, which it
   does in step with all that do; the last step is computed for each. */
static void find_ends(const struct sequence *q, long me, long all) {
    long time = q->time;
    for (long row = FROM(q->batch); row < TO(q->batch); row++) {
        const unsigned char *counts = q->counts + row * time;
        long lead = 0, tail = 0;
        if (q->spares && q->counts) {
            while (lead < time && !counts[read_by(q, lead)]) lead++;
            while (tail < time && !counts[read_by(q, time - 1 - tail)]) tail++;
        } else if (q->spares && led(q)) {
            while (lead < time - 1 && !q->ids[row * time + read_by(q, lead)]) lead++;
        }
        leads_of(q)[row] = lead;
        tails_of(q)[row] = tail;
    }
}

/* The place in a share of the row that is the rank-th in length, or -1: each share in turn is dealt one, and at last
   those that have one more. */
INLINE long dealt(const struct sequence *q, long rank, long share, long shares) {
    long from = share_from(q, share, shares), to = share_from(q, share + 1, shares), each = q->batch / shares;
    if (rank < each * shares) return rank % shares == share ? from + rank / shares : -1;
    return to - from > each && rank - each * shares == from - share * each ? to - 1 : -1;
}

/* Rows of a share in the order of what can be left out at their beginnings, or at their ends where that is more: those
   that are computed at a step are then the first ones of a block. As they come where nothing can be. */
static void put_in_order(const struct sequence *q, long share, long shares) {
    long from = share_from(q, share, shares), to = share_from(q, share + 1, shares), before = 0, behind = 0;
    for (long row = 0; row < q->batch; row++) before += leads_of(q)[row], behind += tails_of(q)[row];
    const int *idle = behind > before ? tails_of(q) : leads_of(q);
    int first[q->time + 2];
    memset(first, 0, sizeof first);
    for (long row = 0; row < q->batch; row++) first[idle[row] + 1]++;
    for (long n = 1; n <= q->time; n++) first[n] += first[n - 1];
    for (long row = 0; row < q->batch; row++) {
        long place = before + behind ? dealt(q, first[idle[row]]++, share, shares) : row;
        if (from <= place && place < to) q->spans[place] = row;
    }
    for (long row = from, rows; rows = block_of(to - row), rows; row += rows) {
        int last = row_at(q, row + rows - 1), leads = led(q) && idle[last];
        if (leads) {
            memmove(q->spans + row + 1, q->spans + row, sizeof(int) * (rows - 1));
            q->spans[row] = last;
        }
        for (long place = row; place < row + rows; place++) {
            int out = leads && place == row ? 0 : idle[row_at(q, place)];
            begins_of(q)[place] = behind > before ? 0 : out;
            ends_of(q)[place] = q->time - (behind > before ? out : 0);
        }
    }
}

INLINE int computed(const struct sequence *q, long place, long t) {
    return begins_of(q)[place] <= t && t < ends_of(q)[place];
}

/* How many rows of a block are computed at step t, after n were at the step next to it. */
INLINE long computed_of(const struct sequence *q, long row, long rows, long n, long t) {
    while (n < rows && computed(q, row + n, t)) n++;
    while (n && !computed(q, row + n - 1, t)) n--;
    return n;
}

/* Rows from `n` up to `now` join the one that stood for them, with a copy of its state. */
INLINE void join(const struct sequence *q, float *states, long n, long now, long padded) {
    for (long r = n > 1 ? n : 1; r < now && led(q); r++) memcpy(states + r * padded, states, 4 * padded);
}

/* And on the way back they leave their slopes to it. */
INLINE void leave(const struct sequence *q, float *slopes, long apart, long n, long now) {
    for (long r = now; r < n && led(q); r++)
        for (long j = 0; j < q->units; j++) slopes[j] += slopes[r * apart + j];
}

/* What a word gives the gates at step t of a row of the batch; on the way back, the slopes of that. */
INLINE float *given_at(const struct sequence *q, long place, long t, long share, long shares) {
    long word = q->ids[row_at(q, place) * q->time + read_by(q, t)];
    return given_of(q, share, shares) + places_of(q, share)[word] * width_of(q);
}

/* A share's own words are found: how many they are. */
static long find_words(const struct sequence *q, long share, long shares) {
    int *places = places_of(q, share), *own = q->own + own_from(q, share, shares);
    long count = 0;
    for (long place = share_from(q, share, shares); place < share_from(q, share + 1, shares); place++) {
        const whole *ids = q->ids + row_at(q, place) * q->time;
        for (long i = 0; i < q->time; i++)
            if (places[ids[i]] < 0) {
                own[count] = ids[i];
                places[ids[i]] = count++;
            }
    }
    return q->counted[share] = count;
}

/* And forgotten, as the next call begins without; its shares may have other rows. */
static void forget_words(const struct sequence *q, long share, long shares) {
    const int *own = q->own + own_from(q, share, shares);
    for (long i = 0; i < q->counted[share]; i++) places_of(q, share)[own[i]] = -1;
}

/* The vector of a word, as the layer reads it. */
INLINE void take_vector(const struct sequence *q, float *to, long word) {
    memcpy(to, q->table + word * q->features, 4 * q->features);
    for (long i = 0; q->rounds && i < q->features; i++) to[i] = wide(narrow(to[i]));
}

/* Each word that a share's rows have is taken to the gates once, with the biases, however often it comes. */
static void take_words(const struct sequence *q, const float *biases, long share, long shares) {
    long f = q->features, width = width_of(q), count = find_words(q, share, shares);
    const int *own = q->own + own_from(q, share, shares);
    float vectors[MOST_ROWS * f], *given = given_of(q, share, shares);
    for (long from = 0, rows; rows = block_of(count - from), rows; from += rows) {
        for (long r = 0; r < rows; r++) take_vector(q, vectors + r * f, own[from + r]);
        for (long at = 0; at < width; at += WIDTH)
            rows_of_product(given + from * width + at, width, rows, WIDTH, biases + at, vectors, f, 1,
                            q->panels + at * (f + q->units), WIDTH, f, 0);
    }
}

INLINE void take_given(const struct sequence *q, float *z, long row, long rows, long t, long share, long shares) {
    for (long r = 0; r < rows; r++) memcpy(z + r * width_of(q), given_at(q, row + r, t, share, shares), 4 * width_of(q));
}

/* And the state's part, where all gates see the same state. */
INLINE void take_given_and_state(const struct sequence *q, float *z, const float *h, long row, long rows, long t,
                                 long share, long shares) {
    long f = q->features, both = f + q->units, width = width_of(q);
    take_given(q, z, row, rows, t, share, shares);
    for (long at = 0; at < width && (t || q->first_h); at += WIDTH)
        rows_of_product(z + at, width, rows, WIDTH, 0, h, upward(q->units), 1, q->panels + at * both + f * WIDTH, WIDTH,
                        q->units, 1);
}

/* On the way back a share begins with no slopes for its words. */
static void await_words(const struct sequence *q, long share, long shares) {
    long count = find_words(q, share, shares);
    memset(given_of(q, share, shares), 0, 4 * count * width_of(q));
}

INLINE void add_given(const struct sequence *q, const float *dz, long row, long rows, long t, long share, long shares) {
    long width = width_of(q);
    for (long r = 0; r < rows; r++) {
        float *to = given_at(q, row + r, t, share, shares);
        for (long i = 0; i < width; i++) to[i] += dz[r * width + i];
    }
}

INLINE void add_given_and_state(const struct sequence *q, float *sums, const float *dz, const float *h, long row,
                                long rows, long t, long share, long shares) {
    long width = width_of(q), of_h = q->features * width;
    add_given(q, dz, row, rows, t, share, shares);
    if (t || q->first_h)
        rows_of_product(sums + of_h, width, q->units, width, 0, h, 1, upward(q->units), dz, width, rows, 1);
}

/* What all rows' gates send back to a word, added to `dz`; none where another share's words had it before. */
INLINE int sent_back(const struct sequence *q, float *dz, long word, long first, long shares) {
    long width = width_of(q);
    for (long other = 0; other < first; other++)
        if (places_of(q, other)[word] >= 0) return 0;
    memset(dz, 0, 4 * width);
    for (long other = first; other < shares; other++) {
        long place = places_of(q, other)[word];
        for (long i = 0; place >= 0 && i < width; i++) dz[i] += given_of(q, other, shares)[place * width + i];
    }
    return 1;
}

/* Slopes of words' gates go on to the kernel, the biases and the table. */
static void words_on(const struct sequence *q, float *sums, const float *dz, const long *words, long rows) {
    long f = q->features, u = q->units, width = width_of(q), of_x = upward(f);
    float vectors[MOST_ROWS * f], slopes[MOST_ROWS * of_x] ALIGNED;
    for (long r = 0; r < rows; r++) take_vector(q, vectors + r * f, words[r]);
    add_rows(sums + (f + u) * width, dz, rows, width);
    rows_of_product(sums, width, f, width, 0, vectors, 1, f, dz, width, rows, 1);
    if (!q->table_slopes) return;
    rows_of_product(slopes, of_x, rows, of_x, 0, dz, width, 1, q->turned, of_x + upward(u), width, 0);
    for (long r = 0; r < rows; r++) memcpy(q->table_slopes + words[r] * f, slopes + r * of_x, 4 * f);
}

/* A thread takes every so many of each share's words. */
static void words_back(const struct sequence *q, float *sums, long me, long all) {
    long width = width_of(q), held = 0, words[MOST_ROWS];
    float dz[MOST_ROWS * width] ALIGNED;
    for (long other = 0; other < *q->shares; other++)
        for (long i = me; i < q->counted[other]; i += all) {
            words[held] = q->own[own_from(q, other, *q->shares) + i];
            held += sent_back(q, dz + held * width, words[held], other, *q->shares);
            if (held == MOST_ROWS) words_on(q, sums, dz, words, held), held = 0;
        }
    words_on(q, sums, dz, words, held);
}

/* Every share's slopes are there, and the table's are none, before words are taken back; and sums before they are
   gathered. */
#define WORDS_BACK                                                                                                    \
    if (q->words) {                                                                                                   \
        long f = q->features;                                                                                         \
        if (q->table_slopes) memset(q->table_slopes + FROM(q->words) * f, 0, 4 * f * (TO(q->words) - FROM(q->words))); \
        MEET;                                                                                                         \
        words_back(q, sums, me, all);                                                                                 \
    }                                                                                                                 \
    MEET;                                                                                                             \
    EACH_SHARE(q->words) forget_words(q, share, *q->shares)

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

/* States (batch, units) as rows of a block, zeros after the units and where there are none; and the way back. */
INLINE void take_states(const struct sequence *q, float *to, long apart, const float *given, long row, long rows) {
    for (long r = 0; r < rows; r++) {
        memset(to + r * apart, 0, 4 * upward(q->units));
        if (given) memcpy(to + r * apart, given + row_at(q, row + r) * q->units, 4 * q->units);
    }
}

INLINE void put_states(const struct sequence *q, float *to, const float *from, long apart, long row, long rows) {
    for (long r = 0; r < rows && to; r++) memcpy(to + row_at(q, row + r) * q->units, from + r * apart, 4 * q->units);
}

/* The way back goes against the order that caches foresee: a row's numbers of step t - 1 are asked for, where those of
   step t lie here (carries where there are some). */
INLINE void foresee(const struct sequence *q, const float *gates, const float *h, const float *c, long row, long t) {
    long width = width_of(q), padded = upward(q->units);
    for (long j = 0; t && j < width; j += LANES) __builtin_prefetch(gates - q->batch * width + j);
    for (long j = 0; t && j < padded; j += LANES) __builtin_prefetch(h - q->batch * padded + j);
    for (long j = 0; t && c && j < padded; j += LANES) __builtin_prefetch(c - q->batch * padded + j);
    for (long j = 0; t && !q->words && j < q->features; j += LANES) __builtin_prefetch(input_at(q, row, t - 1) + j);
}

/* What a row that does not go on has behind a step: the state that it had. */
INLINE void keep_state(float *to, const float *from, long r, long padded) {
    memcpy(to + r * padded, from + r * padded, 4 * padded);
}

/* So do rows that are not computed, where none stands for them. */
INLINE void keep_states(const struct sequence *q, float *to, const float *from, long n, long rows, long padded) {
    for (long r = n; r < rows && !led(q); r++) keep_state(to, from, r, padded);
}

/* On the way back such a row has no slopes at its gates, and the slopes of its state pass the step by: they are set
   aside before the products and put back behind them, where products write over them. */
INLINE void set_aside(const struct sequence *q, float *dz, long width, float *passed, const float *dh, long apart,
                      long row, long rows, long t) {
    for (long r = 0; r < rows && q->counts; r++) {
        if (goes_on(q, row + r, t)) continue;
        memset(dz + r * width, 0, 4 * width);
        if (passed) memcpy(passed + r * upward(q->units), dh + r * apart, 4 * upward(q->units));
    }
}

INLINE void put_back(const struct sequence *q, float *dh, long apart, const float *passed, long row, long rows,
                     long t) {
    for (long r = 0; r < rows && q->counts; r++)
        if (!goes_on(q, row + r, t)) memcpy(dh + r * apart, passed + r * upward(q->units), 4 * upward(q->units));
}

/* A thread's shares, one if as many threads take part as went there. */
#define EACH_SHARE(WHERE) for (long share = me; (WHERE) && share < *q->shares; share += all)

/* Their rows, at most MOST_ROWS at a time. */
#define EACH_BLOCK                                                                                                    \
    EACH_SHARE(1)                                                                                                     \
    for (long shares = *q->shares, row = share_from(q, share, shares), rows;                                          \
         rows = block_of(share_from(q, share + 1, shares) - row), rows; row += rows)

/* On the way there each thread has a share, whose rows it puts in order when the ends of all are found. */
#define BEGIN                                                                                                         \
    find_ends(q, me, all);                                                                                            \
    ALONE *q->shares = all;                                                                                           \
    MEET;                                                                                                             \
    put_in_order(q, me, all)

/* Where the state before step t lies. */
INLINE long state_at(const struct sequence *q, long t) { return q->keeps ? t : t % 2; }

/* Where the numbers of step t and of a block's first row lie: slots, and states. */
#define AT_STEP                                                                                                       \
    float *gates = q->gates + ((q->keeps ? t : 0) * q->batch + row) * width;                                          \
    float *h = q->states + (state_at(q, t) * q->batch + row) * padded;                                                \
    float *new_h = q->states + (state_at(q, t + 1) * q->batch + row) * padded
