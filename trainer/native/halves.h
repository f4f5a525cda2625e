/* Numbers kept as bfloat16, and products of matrices of them. What is computed is float, and rounded when it is kept. */
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

typedef unsigned short half;
#include "tiles.h"

typedef unsigned short h16 __attribute__((vector_size(32), aligned(2), may_alias));
typedef unsigned u16 __attribute__((vector_size(64), aligned(4), may_alias));

INLINE float wide(half x) {
    unsigned bits = (unsigned)x << 16;
    float made;
    memcpy(&made, &bits, 4);
    return made;
}

/* Rounded to the nearest, to even between two; what is no number stays none. */
INLINE half narrow(float x) {
    unsigned bits, high;
    memcpy(&bits, &x, 4);
    high = bits >> 16;
    return x == x ? (bits + 0x7fff + (high & 1)) >> 16 : high | 0x40;
}

INLINE v16 wide_16(const half *from) {
    u16 bits = __builtin_convertvector(*(const h16 *)from, u16) << 16;
    return (v16)bits;
}

INLINE void put_16(half *to, v16 x) {
    u16 bits = (u16)x, high = bits >> 16, none = (u16)(x != x);
    u16 near = (bits + 0x7fff + (high & 1)) >> 16;
    *(h16 *)to = __builtin_convertvector((near & ~none) | ((high | 0x40) & none), h16);
}

/* Two numbers that a sum takes at a time, the first in the lower half: of a matrix's columns, of another one's rows. */
typedef unsigned pair __attribute__((aligned(2), may_alias));

#ifdef __AVX512BF16__
#define PLUS_PAIRS(SUM, PAIR, PAIRS)                                                                                  \
    (v16) _mm512_dpbf16_ps((__m512)(SUM), (__m512bh)_mm512_set1_epi32(PAIR), (__m512bh)(PAIRS))
#else
INLINE float float_of(unsigned bits) {
    float made;
    memcpy(&made, &bits, 4);
    return made;
}
#define PLUS_PAIRS(SUM, PAIR, PAIRS)                                                                                  \
    (SUM) + float_of((PAIR) << 16) * (v16)((PAIRS) << 16) + float_of((PAIR) & 0xffff0000) * (v16)((PAIRS) & 0xffff0000)
#endif

/* R rows and C vectors of columns of o = a b + bias: a's pairs are read at any stride, b's lie vector by vector. */
#define PAIRS_BLOCK(NAME, R, C)                                                                                       \
    FUSED INLINE void NAME(half *o, long on, long width, const float *bias, const half *a, long am, long ak,          \
                           const unsigned *b, long pairs) {                                                           \
        v16 sum[R][C];                                                                                                \
        for (int r = 0; r < R; r++)                                                                                   \
            for (int c = 0; c < C; c++) sum[r][c] = (v16){0};                                                         \
        for (long i = 0; i < pairs; i++)                                                                              \
            for (int c = 0; c < C; c++) {                                                                             \
                u16 row = *(const u16 *)(b + (i * C + c) * 16);                                                       \
                IN_A_REGISTER(row);                                                                                   \
                for (int r = 0; r < R; r++)                                                                           \
                    sum[r][c] = PLUS_PAIRS(sum[r][c], *(const pair *)(a + r * am + i * ak), row);                     \
            }                                                                                                         \
        for (int r = 0; r < R; r++)                                                                                   \
            for (int c = 0; c < C; c++) put_some(o + r * on + 16 * c, sum[r][c] + *(const v16 *)(bias + 16 * c),      \
                                                 width - 16 * c);                                                     \
    }

/* The first numbers of a vector. */
INLINE void put_some(half *to, v16 x, long width) {
    half made[16];
    if (width >= 16) {
        put_16(to, x);
    } else {
        put_16(made, x);
        for (long c = 0; c < width; c++) to[c] = made[c];
    }
}

#define EACH_STRIP(DO)                                                                                                \
    DO(6)                                                                                                             \
    DO(5)                                                                                                             \
    DO(4)                                                                                                             \
    DO(3)                                                                                                             \
    DO(2)                                                                                                             \
    DO(1)
#define BLOCKS(R)                                                                                                     \
    PAIRS_BLOCK(pairs_##R, R, WIDE)                                                                                   \
    PAIRS_BLOCK(vector_of_pairs_##R, R, 1)
EACH_STRIP(BLOCKS)

/* Rows 2 i and 2 i + 1 of a matrix as one row of pairs, for i from `first` to `last`; rows of pairs are `beside` apart,
   and where there is no second row there are zeros. The matrix has k rows; they lie in order. */
INLINE void rows_paired(unsigned *to, long beside, const half *from, long apart, long k, long width, long first,
                        long last) {
    for (long i = first; i < last; i++) {
        const half *one = from + 2 * i * apart, *two = one + apart;
        unsigned *made = to + i * beside;
        long c = 0;
        if (2 * i + 1 == k)
            for (; c < width; c++) made[c] = one[c];
        for (; c <= width - 16; c += 16)
            *(u16 *)(made + c) = __builtin_convertvector(*(const h16 *)(one + c), u16) |
                                 __builtin_convertvector(*(const h16 *)(two + c), u16) << 16;
        for (; c < width; c++) made[c] = one[c] | (unsigned)two[c] << 16;
    }
}

/* The same where the matrix's columns lie in order, `apart` from each other. */
INLINE void columns_paired(unsigned *to, long beside, const half *from, long apart, long k, long width, long first,
                           long last) {
    for (long c = 0; c < width; c++)
        for (long i = first; i < last; i++) {
            const half *one = from + c * apart + 2 * i;
            to[i * beside + c] = 2 * i + 1 == k ? *one : *(const pair *)one;
        }
}

/* Whether a product goes by tiles: these are large, and what is missing in them takes as long as what is there. */
INLINE int by_tiles(long m, long k) { return has_tiles && m >= 16 && k >= 32; }

/* Numbers of half from one pair that `pairs_share` made to the next, down and across. */
#define PAIRS_DOWN(M, K) (by_tiles(M, K) ? ((K) + 1) / 2 * 2 : 2)
#define PAIRS_ACROSS(M, K) (by_tiles(M, K) ? 2 : 2 * (M))

/* A thread's share of the pairs of a (m, k) matrix, one for each two columns: (k / 2, m), or for tiles (m, k / 2). */
static void pairs_share(unsigned *to, const half *a, long m, long k, long am, long ak, long me, long all) {
    long pairs = (k + 1) / 2;
    if (by_tiles(m, k))
        for (long first = FROM(m), rows; first < TO(m); first += rows) {
            rows = TO(m) - first < 16 ? TO(m) - first : 16;
            for (long i = 0, columns; i < pairs; i += columns) {
                columns = pairs - i < 16 ? pairs - i : 16;
                if (am == 1 && rows == 16 && columns == 16) {
                    unsigned some[16 * 16];
                    rows_paired(some, 16, a + first + 2 * i * ak, ak, k - 2 * i, 16, 0, 16);
                    turned_16(to + first * pairs + i, pairs, some, 16);
                    continue;
                }
                for (long r = first; r < first + rows; r++)
                    for (long c = i; c < i + columns; c++) {
                        const half *one = a + r * am + 2 * c * ak;
                        to[r * pairs + c] = *one | (2 * c + 1 < k ? (unsigned)one[ak] << 16 : 0);
                    }
            }
        }
    else if (am == 1) rows_paired(to, m, a, ak, k, m, FROM(pairs), TO(pairs));
    else columns_paired(to, m, a, am, k, m, FROM(pairs), TO(pairs));
}

/* Up to 32 rows of o = a b + bias by tiles, whose rows of pairs are whole in `b`: what is missing there is zeros. */
static void rows_by_tiles(half *o, long on, long width, const float *bias, const half *a, long am, long rows,
                          const unsigned *b, long beside, long pairs) {
    half some[32 * 32];
    float made[32 * 32];
    for (long c = 0; c < width; c += 32) {
        int both = width - c > 16;
        no_sums();
        for (long i = 0; i < pairs; i += 16) {
            const half *from = a + 2 * i;
            long apart = am, count = pairs - i < 16 ? pairs - i : 16;
            if (rows < 32 || count < 16) {
                memset(some, 0, sizeof some);
                for (long r = 0; r < rows; r++) memcpy(some + 32 * r, from + r * am, 4 * count);
                from = some, apart = 32;
                WRITTEN;
            }
            plus_tiles(from, from + 16 * apart, 2 * apart, b + i * beside + c, beside, both);
        }
        put_sums(made, made + 16 * 32, 32, both);
        WRITTEN;
        for (long r = 0; r < rows; r++)
            for (long i = 0; i < 32 && c + i < width; i += 16)
                put_some(o + r * on + c + i, *(v16 *)(made + 32 * r + i) + *(const v16 *)(bias + c + i), width - c - i);
    }
}

/* A thread's share of o (m, n) = a (m, k) b (k, n) (+ bias), as of `product_share`. a is given by its pairs: `am` and
   `ak` are the numbers of half between one and the next. b's rows lie in order (bn is 1) or its columns do (bk is 1);
   `room` is for a panel of it. */
COMPILED_ONCE static void half_product_share(half *o, long m, long n, long k, const half *bias, const half *a, long am,
                                             long ak, const half *b, long bk, long bn, unsigned *room, long me,
                                             long all) {
    long pairs = (k + 1) / 2, panels = (n + PANEL - 1) / PANEL, across = all;
    while (all % across || across > panels) across--;
    long column = me % across, row = me / across, down = all / across;
    long right = panels * (column + 1) / across * PANEL, top = m * row / down, bottom = m * (row + 1) / down;
    int tiled = by_tiles(m, k);
    float added[PANEL];
    if (right > n) right = n;
    if (tiled) set_tiles(16);
    for (long j = panels * column / across * PANEL, width; j < right; j += width) {
        long lanes = right - j < PANEL ? 16 : PANEL, r = top;
        width = right - j < lanes ? right - j : lanes;
        if (width < lanes) memset(room, 0, 4 * pairs * lanes);
        if (tiled) memset(room + pairs * lanes, 0, 4 * (-pairs & 15) * lanes);
        if (bn == 1) rows_paired(room, lanes, b + j, bk, k, width, 0, pairs);
        else columns_paired(room, lanes, b + j * bn, bn, k, width, 0, pairs);
        for (long c = 0; c < lanes; c++) added[c] = bias && c < width ? wide(bias[j + c]) : 0;
        WRITTEN;
        for (; tiled && r < bottom; r += 32)
            rows_by_tiles(o + r * n + j, n, width, added, a + r * am, am, bottom - r < 32 ? bottom - r : 32, room,
                          lanes, pairs);
#define STRIP(R)                                                                                                      \
    for (; bottom - r >= R; r += R) {                                                                                 \
        if (lanes == PANEL) pairs_##R(o + r * n + j, n, width, added, a + r * am, am, ak, room, pairs);               \
        else vector_of_pairs_##R(o + r * n + j, n, width, added, a + r * am, am, ak, room, pairs);                    \
    }
        EACH_STRIP(STRIP)
#undef STRIP
    }
    if (tiled) drop_tiles();
}
