/* A convolution of pictures and the maximum of its windows as one, both ways. What the convolution makes is never
   written: of each window only the largest sum is kept, and where it stood. The way back has one slope for a window,
   which goes to the place of that sum alone. Pictures are laid (row, column, channel), kernels (row, column, channel,
   filter), as in Keras. A thread takes some pictures of the batch and adds up their slopes of the kernel, so that the last
   digits of these depend on how many threads there are. Pictures, outputs and their slopes are float or bfloat16, sums are
   float. */
#define SHARED
#include "kernels.h"
#include "halves.h"

typedef unsigned char c16 __attribute__((vector_size(16), aligned(1), may_alias));

/* Sizes and tensors of a call. Windows (high, wide) do not overlap; `top` and `left` are zeros before a picture, and
   `tall` and `broad` what the windows see of it, zeros included. Filters are a multiple of 16. `places` says which sum of
   its window was the largest; the kernel is turned round as well (filter, row, column, channel), and where pictures are
   bfloat16 and rows of the kernel even, its numbers stand in pairs too (row, column and channel by twos, filter).
   A thread has `each` numbers of the room: a picture, its slopes (`back`), outputs or their slopes as floats (`made`) and
   sums of a row of windows (`band`) where pictures are bfloat16; for the way back by tiles slopes of the places of a
   picture (`spread`), these in pairs of places (`paired`), the picture channel by channel (`sides`), and the kernel in
   pairs of filters (`crossed`), which are there where `tiled` says that all sizes suit. */
struct pooled {
    long batch, height, width, channels, rows, columns, filters, high, wide, out_height, out_width, top, left, tall, broad;
    long is_half, tiled, each, back, made, band, spread, paired, sides, crossed;
    const void *x;
    const float *kernel, *bias;
    const unsigned *pairs;
    void *outputs;
    unsigned char *places;
    const void *slopes;
    const float *turned;
    void *x_slopes;
    float *room, *sums, *kernel_slopes, *bias_slopes;
};

/* Numbers of a row of the kernel that lie side by side in a picture too. */
INLINE long run_of(const struct pooled *q) { return q->columns * q->channels; }

INLINE long taps_of(const struct pooled *q) { return q->rows * run_of(q); }

INLINE long picture_of(const struct pooled *q) { return q->tall * q->broad * q->channels; }

INLINE long cells_of(const struct pooled *q) { return q->out_height * q->out_width; }

/* Filters that tiles take together. */
#define ABREAST_IN_TILES 32

/* A part of a thread's room, which begins with a picture. */
#define PART(NAME) (q->room + me * q->each + q->NAME)

/* Numbers from one place to another, as float or as bfloat16. */
INLINE void copied(void *to, long at, int to_half, const void *from, long first, int from_half, long count) {
    const half *halves = (const half *)from + first;
    const float *floats = (const float *)from + first;
    if (to_half && from_half) memcpy((half *)to + at, halves, 2 * count);
    else if (to_half) for (long i = 0; i < count; i++) ((half *)to)[at + i] = narrow(floats[i]);
    else if (from_half) for (long i = 0; i < count; i++) ((float *)to)[at + i] = wide(halves[i]);
    else memcpy((float *)to + at, floats, 4 * count);
}

INLINE void zeros(void *to, long at, int is_half, long count) {
    if (is_half) memset((half *)to + at, 0, 2 * count);
    else memset((float *)to + at, 0, 4 * count);
}

/* A picture with zeros around it, and what its windows do not see cut off. */
static void take_picture(const struct pooled *q, void *to, int to_half, long n) {
    long down = q->broad * q->channels, rows = q->height < q->tall - q->top ? q->height : q->tall - q->top;
    long columns = q->width < q->broad - q->left ? q->width : q->broad - q->left;
    if (rows < q->tall || columns < q->broad) zeros(to, 0, to_half, picture_of(q));
    for (long y = 0; y < rows; y++)
        copied(to, (q->top + y) * down + q->left * q->channels, to_half, q->x,
               (n * q->height + y) * q->width * q->channels, q->is_half, columns * q->channels);
}

static void put_picture(const struct pooled *q, const float *from, long n) {
    long down = q->broad * q->channels, across = q->width * q->channels;
    for (long y = 0; y < q->height; y++) {
        long to = (n * q->height + y) * across;
        long columns = q->width < q->broad - q->left ? q->width : q->broad - q->left;
        if (y >= q->tall - q->top) columns = 0;
        copied(q->x_slopes, to, q->is_half, from, (q->top + y) * down + q->left * q->channels, 0, columns * q->channels);
        zeros(q->x_slopes, to + columns * q->channels, q->is_half, across - columns * q->channels);
    }
}

/* Where the window of an output begins in the picture, and a place of it. */
INLINE long corner_of(const struct pooled *q, long cell) {
    return (cell / q->out_width * q->high * q->broad + cell % q->out_width * q->wide) * q->channels;
}

INLINE long place_of(const struct pooled *q, long place) {
    return (place / q->wide * q->broad + place % q->wide) * q->channels;
}

#define EITHER(MASK, A, B) ((v16)(((i16)(A) & (MASK)) | ((i16)(B) & ~(MASK))))

/* Sums that registers hold: places of windows, and vectors of filters of each. */
#ifdef __AVX512F__
#define PLACES 8
#define ABREAST 2
#else
#define PLACES 4
#define ABREAST 1
#endif

/* V vectors of filters for PLACES places of a picture: STEP numbers of it at a time, by PLUS to a sum. */
#define SUMS(NAME, V, NUMBER, KERNEL, VECTOR, TAKEN, STEP, PLUS)                                                      \
    FUSED INLINE void NAME(const struct pooled *q, const NUMBER *const *at, long j, v16 (*sum)[V]) {                  \
        long run = run_of(q), down = q->broad * q->channels;                                                          \
        const KERNEL;                                                                                                 \
        v16 made[PLACES][V];                                                                                          \
        for (int r = 0; r < PLACES; r++)                                                                              \
            for (int c = 0; c < V; c++) made[r][c] = (v16){0};                                                        \
        for (long y = 0; y < q->rows; y++)                                                                            \
            for (long i = y * down; i < y * down + run; i += STEP, kernel += q->filters)                              \
                for (int c = 0; c < V; c++) {                                                                         \
                    VECTOR row = *(const VECTOR *)(kernel + 16 * c);                                                  \
                    for (int r = 0; r < PLACES; r++) made[r][c] = PLUS(made[r][c], *(const TAKEN *)(at[r] + i), row); \
                }                                                                                                     \
        for (int r = 0; r < PLACES; r++)                                                                              \
            for (int c = 0; c < V; c++) sum[r][c] = made[r][c];                                                       \
    }
#define PLUS_NUMBER(SUM, NUMBER, ROW) (SUM) + (NUMBER) * (ROW)
#define FLOAT_SUMS(NAME, V) SUMS(NAME, V, float, float *kernel = q->kernel + j, v16, float, 1, PLUS_NUMBER)
#define HALF_SUMS(NAME, V) SUMS(NAME, V, half, unsigned *kernel = q->pairs + j, u16, pair, 2, PLUS_PAIRS)

/* Some windows side by side, of `all` places each; more places than there is room for one after the other. A sum that
   is no number is the largest. */
#define WINDOWS(NAME, EACH, V, NUMBER, SUMS_OF)                                                                       \
    INLINE void EACH(const struct pooled *q, const NUMBER *picture, long first, long count, long all, long j,         \
                     float *out, unsigned char *places) {                                                             \
        long room = all < PLACES ? all : PLACES;                                                                      \
        v16 best[PLACES][V], sum[PLACES][V];                                                                          \
        i16 where[PLACES][V];                                                                                         \
        for (long from = 0; from < all; from += room) {                                                               \
            const NUMBER *at[PLACES];                                                                                 \
            for (long r = 0; r < PLACES; r++) {                                                                       \
                long window = r / room < count ? r / room : count - 1, place = from + r % room;                       \
                at[r] = picture + corner_of(q, first + window) + place_of(q, place < all ? place : all - 1);          \
            }                                                                                                         \
            SUMS_OF(q, at, j, sum);                                                                                   \
            for (long r = 0; r < PLACES / room * room && r / room < count && from + r % room < all; r++)              \
                for (int c = 0; c < V; c++) {                                                                         \
                    long window = r / room;                                                                           \
                    i16 more = (sum[r][c] > best[window][c]) | (sum[r][c] != sum[r][c]);                              \
                    if (from + r % room == 0) more = ~(i16){0};                                                       \
                    best[window][c] = EITHER(more, sum[r][c], best[window][c]);                                       \
                    where[window][c] = (where[window][c] & ~more) | (((i16){0} + (int)(from + r % room)) & more);     \
                }                                                                                                     \
        }                                                                                                             \
        for (long window = 0; window < count; window++)                                                               \
            for (int c = 0; c < V; c++) {                                                                             \
                long to = (first + window) * q->filters + j + 16 * c;                                                 \
                *(v16 *)(out + to) =                                                                                  \
                    q->bias ? (v16)(best[window][c] + *(const v16 *)(q->bias + j + 16 * c)) : best[window][c];        \
                *(c16 *)(places + to) = __builtin_convertvector(where[window][c], c16);                               \
            }                                                                                                         \
    }                                                                                                                 \
    FUSED static void NAME(const struct pooled *q, const NUMBER *picture, long j, float *out, unsigned char *places) { \
        long cells = cells_of(q), all = q->high * q->wide, side = all < PLACES ? PLACES / all : 1;                    \
        for (long first = 0; first < cells; first += side) {                                                          \
            long count = cells - first < side ? cells - first : side;                                                 \
            if (all == 4) EACH(q, picture, first, count, 4, j, out, places);                                          \
            else EACH(q, picture, first, count, all, j, out, places);                                                 \
        }                                                                                                             \
    }
FLOAT_SUMS(sums_1, 1)
HALF_SUMS(pair_sums_1, 1)
WINDOWS(all_windows_1, windows_1, 1, float, sums_1)
WINDOWS(all_pair_windows_1, pair_windows_1, 1, half, pair_sums_1)
#if ABREAST > 1
FLOAT_SUMS(sums_2, 2)
HALF_SUMS(pair_sums_2, 2)
WINDOWS(all_windows_2, windows_2, 2, float, sums_2)
WINDOWS(all_pair_windows_2, pair_windows_2, 2, half, pair_sums_2)
#else
#define all_windows_2 all_windows_1
#define all_pair_windows_2 all_pair_windows_1
#endif

/* Whether sums go by tiles, which are places of a row of the picture: numbers that lie side by side there, by 32. */
INLINE int in_tiles(const struct pooled *q) { return has_tiles && q->pairs && run_of(q) % 32 == 0; }

/* Places of a tile, as few as cover a row of windows in equal parts. */
INLINE long tile_of(const struct pooled *q) {
    long span = q->out_width * q->wide, tiles = (span + 15) / 16;
    return (span + tiles - 1) / tiles;
}

/* The largest of each window of a row, from its sums. */
FUSED static void largest(const struct pooled *q, const float *sums, long j, float *out, unsigned char *places) {
    long span = q->out_width * q->wide, all = q->high * q->wide;
    for (long x = 0; x < q->out_width; x++)
        for (long c = 0; c < ABREAST_IN_TILES && j + c < q->filters; c += 16) {
            const float *from = sums + x * q->wide * ABREAST_IN_TILES + c;
            long to = x * q->filters + j + c;
            v16 best = *(const v16 *)from;
            i16 where = {0};
            for (long p = 1; p < all; p++) {
                v16 sum = *(const v16 *)(from + (p / q->wide * span + p % q->wide) * ABREAST_IN_TILES);
                i16 more = (sum > best) | (sum != sum);
                best = EITHER(more, sum, best);
                where = (where & ~more) | (((i16){0} + (int)p) & more);
            }
            *(v16 *)(out + to) = q->bias ? (v16)(best + *(const v16 *)(q->bias + j + c)) : best;
            *(c16 *)(places + to) = __builtin_convertvector(where, c16);
        }
}

/* All windows of a picture by tiles, row by row; where the last tile of a row would stand out it begins earlier. */
static void all_tiled_windows(const struct pooled *q, const half *picture, float *sums, float *out,
                              unsigned char *places) {
    long span = q->out_width * q->wide, size = tile_of(q), across = (span + size - 1) / size, all = q->high * across;
    long down = q->broad * q->channels, run = run_of(q);
#define PLACE(T) ((T) / across * span + ((T) % across < across - 1 ? (T) % across * size : span - size))
    for (long y = 0; y < q->out_height; y++, picture += q->high * down, out += q->out_width * q->filters,
              places += q->out_width * q->filters)
        for (long j = 0; j < q->filters; j += ABREAST_IN_TILES) {
            int both = q->filters - j > 16;
            for (long t = 0; t < all; t += 2) {
                long one = PLACE(t), other = t + 1 < all ? PLACE(t + 1) : one;
                const half *from = picture + one / span * down + one % span * q->channels;
                const half *beside = picture + other / span * down + other % span * q->channels;
                no_sums();
                for (long row = 0; row < q->rows; row++)
                    for (long i = 0; i < run; i += 32)
                        plus_tiles(from + row * down + i, beside + row * down + i, 2 * q->channels,
                                   q->pairs + (row * run + i) / 2 * q->filters + j, q->filters, both);
                put_sums(sums + one * ABREAST_IN_TILES, sums + other * ABREAST_IN_TILES, ABREAST_IN_TILES, both);
            }
            WRITTEN;
            largest(q, sums, j, out, places);
        }
#undef PLACE
}

void pooled_forward_share(struct work *work, long me, long all) {
    const struct pooled *q = (struct pooled *)work->p;
    long size = cells_of(q) * q->filters;
    float *picture = q->room + me * q->each, *made = PART(made);
    if (in_tiles(q)) set_tiles(tile_of(q));
    for (long n = FROM(q->batch); n < TO(q->batch); n++) {
        float *out = q->is_half ? made : (float *)q->outputs + n * size;
        unsigned char *places = q->places + n * size;
        long j = 0;
        take_picture(q, picture, !!q->pairs, n);
#define WINDOWS_OF(V)                                                                                                 \
    if (q->pairs) all_pair_windows_##V(q, (half *)picture, j, out, places);                                           \
    else all_windows_##V(q, picture, j, out, places);
        if (in_tiles(q)) {
            WRITTEN;
            all_tiled_windows(q, (half *)picture, PART(band), out, places);
            j = q->filters;
        }
        for (; j + 32 <= q->filters && ABREAST == 2; j += 32) WINDOWS_OF(2)
        for (; j < q->filters; j += 16) WINDOWS_OF(1)
        if (q->is_half) copied(q->outputs, n * size, 1, made, 0, 0, size);
    }
    if (in_tiles(q)) drop_tiles();
}

/* Windows that are gone through at a time, as long as what is said of them stays near. */
#define MANY 1024
#define MANY_PLACES 256

/* A window's slope that is not zero, and where in the picture it goes. */
struct slope {
    float slope;
    int at;
};

/* W numbers of V vectors side by side, of one filter and one row of the kernel, for some slopes: sums and kernel stay
   in registers. Either of them may be left out. */
#define RUN(NAME, W, V)                                                                                               \
    FUSED static void NAME(const float *picture, float *back, float *sums, const float *turned,                       \
                           const struct slope *found, long count) {                                                   \
        v##W sum[V], kernel[V];                                                                                       \
        if (sums)                                                                                                     \
            for (int c = 0; c < V; c++) sum[c] = *(v##W *)(sums + W * c);                                             \
        if (back)                                                                                                     \
            for (int c = 0; c < V; c++) kernel[c] = *(const v##W *)(turned + W * c);                                  \
        if (sums)                                                                                                     \
            for (long i = 0; i < count; i++)                                                                          \
                for (int c = 0; c < V; c++)                                                                           \
                    sum[c] += found[i].slope * *(const v##W *)(picture + found[i].at + W * c);                        \
        if (back)                                                                                                     \
            for (long i = 0; i < count; i++)                                                                          \
                for (int c = 0; c < V; c++) *(v##W *)(back + found[i].at + W * c) += found[i].slope * kernel[c];      \
        if (sums)                                                                                                     \
            for (int c = 0; c < V; c++) *(v##W *)(sums + W * c) = sum[c];                                             \
    }
RUN(run_8, 16, 8)
RUN(run_6, 16, 6)
RUN(run_4, 16, 4)
RUN(run_2, 16, 2)
RUN(run_1, 16, 1)
RUN(run_of_four, 4, 1)

INLINE void run_over(const float *picture, float *back, float *sums, const float *turned, const struct slope *found,
                     long count, long run) {
    long i = 0;
#define PIECE(NAME, SIZE)                                                                                             \
    for (; i + SIZE <= run; i += SIZE)                                                                                \
        NAME(picture + i, back ? back + i : 0, sums ? sums + i : 0, turned + i, found, count);
    PIECE(run_8, 128)
    PIECE(run_6, 96)
    PIECE(run_4, 64)
    PIECE(run_2, 32)
    PIECE(run_1, 16)
    PIECE(run_of_four, 4)
#undef PIECE
    for (; i < run; i++)
        for (long n = 0; n < count; n++) {
            if (sums) sums[i] += found[n].slope * picture[found[n].at + i];
            if (back) back[found[n].at + i] += found[n].slope * turned[i];
        }
}

/* A picture's part in the slopes of a kernel, and in those of the picture, filter by filter: (filter, row, column,
   channel). */
FUSED static void by_filters(const struct pooled *q, const float *picture, float *back, float *sums, const float *slopes,
                             const unsigned char *seen) {
    long cells = cells_of(q), run = run_of(q), down = q->broad * q->channels, taps = taps_of(q);
    int corners[MANY], places[MANY_PLACES];
    struct slope found[MANY];
    for (long p = 0; p < q->high * q->wide; p++) places[p] = place_of(q, p);
    for (long first = 0; first < cells; first += MANY) {
        long some = cells - first < MANY ? cells - first : MANY;
        for (long cell = 0; cell < some; cell++) corners[cell] = corner_of(q, first + cell);
        for (long k = 0; k < q->filters; k++) {
            long from = first * q->filters + k, count = 0;
            for (long cell = 0; cell < some; cell++) {
                float slope = slopes[from + cell * q->filters];
                found[count] = (struct slope){slope, corners[cell] + places[seen[from + cell * q->filters]]};
                count += slope != 0;
            }
            for (long y = 0; y < q->rows; y++)
                run_over(picture + y * down, back ? back + y * down : 0, sums ? sums + k * taps + y * run : 0,
                         q->turned + k * taps + y * run, found, count, run);
        }
    }
}

/* Numbers of the kernel whose sums for 16 filters stay in registers. */
#define TAPS 12

/* The same of a kernel whose rows are short: place by place, (row, column, channel, filter). */
FUSED static void by_places(const struct pooled *q, const float *picture, float *sums, const float *slopes,
                            const unsigned char *places) {
    long cells = cells_of(q), run = run_of(q), down = q->broad * q->channels, taps = taps_of(q);
    for (long j = 0; j < q->filters; j += 16)
        for (long first = 0; first < taps; first += TAPS) {
            long away[TAPS];
            for (long t = 0; t < TAPS; t++)
                away[t] = first + t < taps ? (first + t) / run * down + (first + t) % run : 0;
            v16 sum[TAPS];
            for (int t = 0; t < TAPS; t++) sum[t] = (v16){0};
            for (long cell = 0; cell < cells; cell++) {
                long at = cell * q->filters + j;
                v16 slope = *(const v16 *)(slopes + at);
                i16 where = __builtin_convertvector(*(const c16 *)(places + at), i16);
                const float *corner = picture + corner_of(q, cell);
                for (long p = 0; p < q->high * q->wide; p++) {
                    v16 here = (v16)((i16)slope & (where == (int)p));
                    const float *seen = corner + place_of(q, p);
                    for (int t = 0; t < TAPS; t++) sum[t] += seen[away[t]] * here;
                }
            }
            for (long t = 0; t < TAPS && first + t < taps; t++) *(v16 *)(sums + (first + t) * q->filters + j) += sum[t];
        }
}

/* What follows from a picture for the way back by tiles: places (row, column) lie in a row, those that no window begins
   at among them, whose slopes are zeros. So whatever the kernel's row and column, tiles read the same numbers elsewhere. */
INLINE long places_of(const struct pooled *q) { return q->tall * q->broad; }

/* Zeros before the first place: what the kernel's last row and column read there. */
INLINE long before(const struct pooled *q) { return (q->rows - 1) * q->broad + q->columns - 1; }

/* Places where sums stood, by the 32 of a tile's pairs. */
INLINE long summed(const struct pooled *q) { return (q->out_height * q->high * q->broad + 31) / 32 * 32; }

/* Numbers from one channel of a picture to the next: places by the 32, and what is read beyond them. */
INLINE long beyond(const struct pooled *q) { return (places_of(q) + 31) / 32 * 32 + 64; }

/* The kernel with rows of pairs of filters. */
static void cross(const struct pooled *q, unsigned *crossed) {
    long taps = taps_of(q);
    for (long k = 0; k < q->filters; k += 2)
        for (long t = 0; t < taps; t += 16) {
            const u16 *one = (const u16 *)(q->turned + k * taps + t), *other = (const u16 *)(q->turned + (k + 1) * taps + t);
            *(u16 *)(crossed + k / 2 * taps + t) = *one >> 16 | (*other & 0xffff0000);
        }
}

/* Slopes of a picture's windows to the places that they go to. */
static void spread_out(const struct pooled *q, half *spread, const half *slopes, const unsigned char *places) {
    for (long cell = 0; cell < cells_of(q); cell++)
        for (long p = 0; p < q->high * q->wide; p++) {
            half *to = spread + (corner_of(q, cell) + place_of(q, p)) / q->channels * q->filters;
            for (long k = 0; k < q->filters; k += 16) {
                h16 where = __builtin_convertvector(*(const c16 *)(places + cell * q->filters + k), h16);
                *(h16 *)(to + k) = *(const h16 *)(slopes + cell * q->filters + k) & (h16)(where == (half)p);
            }
        }
}

/* A picture with the places of a channel side by side. */
static void side_by_side(const struct pooled *q, half *sides, const half *picture) {
    unsigned some[16 * 16];
    long all = places_of(q);
    for (long at = 0; at < all; at += 32)
        for (long c = 0; c < q->channels; c += 16) {
            long pairs = all - at < 32 ? (all - at + 1) / 2 : 16;
            if (pairs < 16) memset(some, 0, sizeof some);
            rows_paired(some, 16, picture + at * q->channels + c, q->channels, all - at, 16, 0, pairs);
            turned_16((unsigned *)(sides + c * beyond(q) + at), beyond(q) / 2, some, 16);
        }
}

/* A picture's part in the slopes of the kernel (row, column, channel, filter), added to them. */
static void kernel_by_tiles(const struct pooled *q, float *sums, const half *sides, const unsigned *paired) {
    for (long tap = 0; tap < q->rows * q->columns; tap++)
        for (long c = 0; c < q->channels; c += 32)
            for (long k = 0; k < q->filters; k += 32) {
                float *one = sums + (tap * q->channels + c) * q->filters + k, *other = one + 16 * q->filters;
                const half *from = sides + c * beyond(q) + tap / q->columns * q->broad + tap % q->columns;
                take_sums(one, other, q->filters);
                for (long at = 0; at < summed(q); at += 32)
                    plus_tiles(from + at, from + 16 * beyond(q) + at, 2 * beyond(q), paired + at / 2 * q->filters + k,
                               q->filters, 1);
                put_sums(one, other, q->filters, 1);
            }
}

/* The slopes of a picture. */
static void picture_by_tiles(const struct pooled *q, float *back, const half *spread, const unsigned *crossed) {
    long all = places_of(q), taps = taps_of(q);
    for (long at = 0; at < all; at += 32)
        for (long c = 0; c < q->channels; c += 32) {
            /* The last tiles begin earlier, so that they end with the picture. */
            long one = at <= all - 16 ? at : all - 16, other = at <= all - 32 ? at + 16 : all - 16;
            no_sums();
            for (long tap = 0; tap < q->rows * q->columns; tap++) {
                const half *from = spread - (tap / q->columns * q->broad + tap % q->columns) * q->filters;
                for (long k = 0; k < q->filters; k += 32)
                    plus_tiles(from + one * q->filters + k, from + other * q->filters + k, 2 * q->filters,
                               crossed + k / 2 * taps + tap * q->channels + c, taps, 1);
            }
            put_sums(back + one * q->channels + c, back + other * q->channels + c, q->channels, 1);
        }
}

#define SHORT 16

void pooled_backward_share(struct work *work, long me, long all) {
    const struct pooled *q = (struct pooled *)work->p;
    long made = cells_of(q) * q->filters, taps = taps_of(q), size = taps * q->filters;
    int is_short = run_of(q) < SHORT, tiled = has_tiles && q->tiled;
    float *picture = q->room + me * q->each, *back = PART(back), *room = PART(made);
    float *sums = q->sums + me * (size + q->filters), *of_bias = sums + size;
    half *spread = (half *)PART(spread) + before(q) * q->filters, *sides = (half *)PART(sides);
    unsigned *paired = (unsigned *)PART(paired), *crossed = (unsigned *)PART(crossed);
    memset(sums, 0, 4 * (size + q->filters));
    if (tiled) {
        memset(PART(spread), 0, 2 * (before(q) + places_of(q) + 32) * q->filters);
        memset(sides, 0, 2 * q->channels * beyond(q));
        cross(q, crossed);
        set_tiles(16);
    }
    for (long n = FROM(q->batch); n < TO(q->batch); n++) {
        const float *slopes = q->is_half ? room : (const float *)q->slopes + n * made;
        const unsigned char *places = q->places + n * made;
        if (q->is_half) copied(room, 0, 0, q->slopes, n * made, 1, made);
        take_picture(q, picture, tiled, n);
        if (tiled) {
            spread_out(q, spread, (const half *)q->slopes + n * made, places);
            rows_paired(paired, q->filters, spread, q->filters, summed(q), q->filters, 0, summed(q) / 2);
            side_by_side(q, sides, (const half *)picture);
            WRITTEN;
            kernel_by_tiles(q, sums, sides, paired);
            if (q->x_slopes) picture_by_tiles(q, back, spread, crossed);
            WRITTEN;
        } else if (q->x_slopes) memset(back, 0, 4 * picture_of(q));
        if (is_short && !tiled) by_places(q, picture, sums, slopes, places);
        if (!tiled && (!is_short || q->x_slopes))
            by_filters(q, picture, q->x_slopes ? back : 0, is_short ? 0 : sums, slopes, places);
        if (q->x_slopes) put_picture(q, back, n);
        for (long cell = 0; cell < made; cell += q->filters)
            for (long k = 0; k < q->filters; k++) of_bias[k] += slopes[cell + k];
    }
    if (tiled) drop_tiles();
    MEET;
    for (long i = FROM(size + q->filters); i < TO(size + q->filters); i++) {
        float sum = 0;
        long from = i >= size || is_short || tiled ? i : i % q->filters * taps + i / q->filters;
        for (long other = 0; other < all; other++) sum += q->sums[other * (size + q->filters) + from];
        if (i < size) q->kernel_slopes[i] = sum;
        else q->bias_slopes[i - size] = sum;
    }
}

ENTRY(pooled, pooled_forward)
ENTRY(pooled, pooled_backward)
