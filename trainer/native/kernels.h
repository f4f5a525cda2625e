/* What the C that trainer writes for a model's steps is made of. Sizes are constants where these are used, so that
   the compiler unrolls and keeps sums in registers. Each sum over k goes from the first to the last term, fused. */
#include <math.h>
#include <string.h>

typedef long long whole;
typedef unsigned char flag;
#define INLINE static inline __attribute__((always_inline))
/* Sums of products are rounded once a term. Elsewhere only where one thread does all: GCC rounds what is left over
   from whole vectors another way, and where that is depends on the shares. */
#if defined(__GNUC__) && !defined(__clang__)
#define FUSED __attribute__((optimize("fp-contract=fast")))
#define COMPILED_ONCE __attribute__((noinline, noclone))
#else
#define FUSED
#define COMPILED_ONCE __attribute__((noinline))
#endif
#define VECTOR(W) typedef float v##W __attribute__((vector_size(4 * W), aligned(4), may_alias));
VECTOR(16)
VECTOR(8)
VECTOR(4)
typedef int i16 __attribute__((vector_size(64), aligned(4), may_alias));

/* Vectors of 16 columns that a block of a product has side by side: registers hold 4 to 6 rows of them. */
#ifdef __AVX512F__
#define WIDE 4
#else
#define WIDE 1
#endif
#define PANEL (16 * WIDE)

/* GCC would read a vector of four rows' products from memory four times, which takes twice as long where it crosses
   two lines of the cache. */
#ifdef __AVX512F__
#define IN_A_REGISTER(VECTOR) __asm__("" : "+v"(VECTOR))
#else
#define IN_A_REGISTER(VECTOR)
#endif

/* R rows and C vectors of W columns of o = a b (+ bias), or of what is added `onto` o: a is read at any stride, b along
   its rows; rows of o and b are `on` and `bk` apart. */
#define BLOCK(NAME, W, R, C)                                                                                          \
    INLINE void NAME(float *o, long on, const float *bias, const float *a, long am, long ak, const float *b, long bk, \
                     long k, int onto) {                                                                              \
        v##W sum[R][C];                                                                                               \
        for (int r = 0; r < R; r++)                                                                                   \
            for (int c = 0; c < C; c++) sum[r][c] = onto ? *(v##W *)(o + r * on + c * W) : (v##W){0};                 \
        for (long i = 0; i < k; i++)                                                                                  \
            for (int c = 0; c < C; c++) {                                                                             \
                v##W row = *(const v##W *)(b + i * bk + c * W);                                                       \
                IN_A_REGISTER(row);                                                                                   \
                for (int r = 0; r < R; r++) sum[r][c] += a[r * am + i * ak] * row;                                    \
            }                                                                                                         \
        for (int r = 0; r < R; r++)                                                                                   \
            for (int c = 0; c < C; c++)                                                                               \
                *(v##W *)(o + r * on + c * W) =                                                                       \
                    bias ? (v##W)(sum[r][c] + *(const v##W *)(bias + c * W)) : sum[r][c];                             \
    }

/* GCC would make products of a row at once and add them up one by one. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define PLUS_PRODUCT(SUM, A, B) __builtin_fmaf(A, B, SUM)
#else
#define PLUS_PRODUCT(SUM, A, B) ((SUM) + (A) * (B))
#endif

#define COLUMN(R)                                                                                                     \
    INLINE void column_##R(float *o, long on, const float *bias, const float *a, long am, long ak, const float *b,    \
                           long bk, long k, int onto) {                                                               \
        float sum[R];                                                                                                 \
        for (int r = 0; r < R; r++) sum[r] = onto ? o[r * on] : 0;                                                    \
        for (long i = 0; i < k; i++)                                                                                  \
            for (int r = 0; r < R; r++) sum[r] = PLUS_PRODUCT(sum[r], a[r * am + i * ak], b[i * bk]);                 \
        for (int r = 0; r < R; r++) o[r * on] = bias ? sum[r] + *bias : sum[r];                                       \
    }

/* Whether columns are multiples of 16 wherever there are any, which halves what there is to compile. */
#ifndef WHOLE_VECTORS
#define WHOLE_VECTORS 0
#endif

/* R rows and n columns. */
#define ROWS(R)                                                                                                       \
    BLOCK(wide_##R, 16, R, WIDE)                                                                                      \
    BLOCK(three_##R, 16, R, 3)                                                                                        \
    BLOCK(two_##R, 16, R, 2)                                                                                          \
    BLOCK(sixteen_##R, 16, R, 1)                                                                                      \
    BLOCK(eight_##R, 8, R, 1)                                                                                         \
    BLOCK(four_##R, 4, R, 1)                                                                                          \
    COLUMN(R)                                                                                                         \
    INLINE void strip_##R(float *o, long on, long n, const float *bias, const float *a, long am, long ak,             \
                          const float *b, long bk, long k, int onto) {                                                \
        long j = 0;                                                                                                   \
        for (; j <= n - PANEL; j += PANEL)                                                                            \
            wide_##R(o + j, on, bias ? bias + j : 0, a, am, ak, b + j, bk, k, onto);                                  \
        for (; WIDE > 3 && j <= n - 48; j += 48)                                                                      \
            three_##R(o + j, on, bias ? bias + j : 0, a, am, ak, b + j, bk, k, onto);                                 \
        for (; WIDE > 2 && j <= n - 32; j += 32)                                                                      \
            two_##R(o + j, on, bias ? bias + j : 0, a, am, ak, b + j, bk, k, onto);                                   \
        for (; j <= n - 16; j += 16) sixteen_##R(o + j, on, bias ? bias + j : 0, a, am, ak, b + j, bk, k, onto);      \
        if (WHOLE_VECTORS) return;                                                                                    \
        for (; j <= n - 8; j += 8) eight_##R(o + j, on, bias ? bias + j : 0, a, am, ak, b + j, bk, k, onto);          \
        for (; j <= n - 4; j += 4) four_##R(o + j, on, bias ? bias + j : 0, a, am, ak, b + j, bk, k, onto);           \
        for (; j < n; j++) column_##R(o + j, on, bias ? bias + j : 0, a, am, ak, b + j, bk, k, onto);                 \
    }
ROWS(6)
ROWS(5)
ROWS(4)
ROWS(3)
ROWS(2)
ROWS(1)

/* o (m, n) = a (m, k) b (k, n) (+ bias), where b's rows lie in order. */
INLINE void product(float *o, long m, long n, long k, const float *bias, const float *a, long am, long ak,
                    const float *b, long bk) {
    long whole_rows = m - m % 4;
    for (long r = 0; r < whole_rows; r += 4) strip_4(o + r * n, n, n, bias, a + r * am, am, ak, b, bk, k, 0);
    o += whole_rows * n;
    a += whole_rows * am;
    if (m % 4 == 3) strip_3(o, n, n, bias, a, am, ak, b, bk, k, 0);
    if (m % 4 == 2) strip_2(o, n, n, bias, a, am, ak, b, bk, k, 0);
    if (m % 4 == 1) strip_1(o, n, n, bias, a, am, ak, b, bk, k, 0);
}

/* The same where b's columns lie in order: laid out anew, which costs less than the product. */
#define TURNED_PRODUCT(o, m, n, k, bias, a, am, ak, b, bn)                                                            \
    do {                                                                                                              \
        float turned[(n) * (k)];                                                                                      \
        for (long j = 0; j < (n); j++)                                                                                \
            for (long i = 0; i < (k); i++) turned[i * (n) + j] = (b)[j * (bn) + i];                                   \
        product(o, m, n, k, bias, a, am, ak, turned, n);                                                              \
    } while (0)

/* A single row of it: sums over several terms at a time. */
INLINE void row_by_columns(float *o, long n, long k, const float *bias, const float *a, long ak, const float *b,
                           long bn) {
    for (long j = 0; j < n; j++) {
        v16 sums = {0};
        long i = 0;
        if (ak == 1)
            for (; i <= k - 16; i += 16) sums += *(const v16 *)(a + i) * *(const v16 *)(b + j * bn + i);
        float sum = 0;
        for (int c = 0; c < 16; c++) sum += sums[c];
        for (; i < k; i++) sum += a[i * ak] * b[j * bn + i];
        o[j] = bias ? sum + bias[j] : sum;
    }
}

/* e to the x is a power of two times 1 + p: p, a polynomial in what the power leaves. */
INLINE float exp_reduced(float x, float *power) {
    float shifted = x * 1.44269504f + 12582912.f, n = shifted - 12582912.f;
    float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    float p = 1.98756915e-4f;
    p = PLUS_PRODUCT(1.39819995e-3f, p, r);
    p = PLUS_PRODUCT(8.33345197e-3f, p, r);
    p = PLUS_PRODUCT(4.16657962e-2f, p, r);
    p = PLUS_PRODUCT(1.66666657e-1f, p, r);
    p = PLUS_PRODUCT(5.00000012e-1f, p, r);
    unsigned bits;
    memcpy(&bits, &shifted, 4);
    bits = (bits << 23) + 0x3f800000u;
    memcpy(power, &bits, 4);
    return PLUS_PRODUCT(r, p, r * r);
}

/* Within 2e-7 of the exact value, relatively, from -87.3 to 88.3, and what it is there beyond. */
INLINE float quick_exp(float x) {
    x = x < -87.3f ? -87.3f : x;
    x = x > 88.3f ? 88.3f : x;
    float power, p = exp_reduced(x, &power);
    return (p + 1.f) * power;
}

INLINE float quick_sigmoid(float x) { return 1.f / (1.f + quick_exp(-x)); }

/* By e to the 2x less one, which keeps the digits of a small x. */
INLINE float quick_tanh(float x) {
    float size = fabsf(x), power, p = exp_reduced(2.f * (size > 15.f ? 15.f : size), &power);
    float less_one = PLUS_PRODUCT(power - 1.f, p, power);
    return copysignf(less_one / (less_one + 2.f), x);
}

/* Sixteen sums side by side, then these. */
INLINE float sum_of_row(const float *x, long n) {
    float sums[16] = {0}, sum = 0;
    long i = 0;
    for (; i + 16 <= n; i += 16)
        for (int c = 0; c < 16; c++) sums[c] += x[i + c];
    if (n >= 16)
        for (int c = 0; c < 16; c++) sum += sums[c];
    for (; i < n; i++) sum += x[i];
    return sum;
}

/* a times the sum of |x| and b times that of x squared. */
INLINE float sum_of_sizes(const float *x, long n, float a, float b) {
    float sizes[16] = {0}, squares[16] = {0};
    for (long i = 0; i < n / 16 * 16; i += 16)
        for (int c = 0; c < 16; c++) {
            sizes[c] += fabsf(x[i + c]);
            squares[c] += x[i + c] * x[i + c];
        }
    for (long i = n / 16 * 16; i < n; i++) {
        sizes[i % 16] += fabsf(x[i]);
        squares[i % 16] += x[i] * x[i];
    }
    return (a ? a * sum_of_row(sizes, 16) : 0) + (b ? b * sum_of_row(squares, 16) : 0);
}

INLINE float most_of_row(const float *x, long n) {
    float found[16], most = x[0];
    long i = 0;
    if (n >= 16) {
        for (int c = 0; c < 16; c++) found[c] = x[c];
        for (i = 16; i + 16 <= n; i += 16)
            for (int c = 0; c < 16; c++) found[c] = x[i + c] > found[c] ? x[i + c] : found[c];
        for (int c = 0; c < 16; c++) most = found[c] > most ? found[c] : most;
    }
    for (; i < n; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* What is no number makes the sum none, and so all. */
INLINE void softmax_row(float *o, const float *x, long n) {
    float most = most_of_row(x, n);
    for (long i = 0; i < n; i++) o[i] = quick_exp(x[i] - most);
    float sum = sum_of_row(o, n);
    for (long i = 0; i < n; i++) o[i] /= sum;
}

/* Steps, and the threads that take them together: each does its share of every statement, then they meet. No sum
   is cut, so that the numbers do not depend on how many there are. */
struct work {
    void **p;
    const whole *rows;
    const float *numbers;
    long count;
    struct work *parts;
    int waiting, turn, wrong;
};

/* What thread `me` of `all` does of it. */
typedef void taking_part(struct work *, long me, long all);

/* torch's own threads, which stand ready. */
struct team {
    void (*run)(void (*)(void *), void *, unsigned, unsigned);
    int (*number)(void), (*size)(void);
};

#ifndef SHARED
#define FROM(n) 0
#define TO(n) (n)
#define ALONE
#define MEET
#define STEPS FUSED

INLINE void together(taking_part *share, struct work *work, long threads, struct team *team) {
    share(work, 0, 1);
}
#else
#include <sched.h>

#define FROM(n) ((long)(n) * me / all)
#define TO(n) ((long)(n) * (me + 1) / all)
#define ALONE if (me == 0)
#define MEET meet(work, all)
#define STEPS
#define PATIENCE 20000

/* A thread that waits for long may have no processor of its own, and gives way. */
INLINE void meet(struct work *work, long all) {
    int turn = __atomic_load_n(&work->turn, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&work->waiting, 1, __ATOMIC_ACQ_REL) == all) {
        __atomic_store_n(&work->waiting, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&work->turn, turn + 1, __ATOMIC_RELEASE);
        return;
    }
    for (long looks = 0; __atomic_load_n(&work->turn, __ATOMIC_ACQUIRE) == turn; looks++)
        if (looks > PATIENCE) sched_yield();
}

struct hand {
    taking_part *share;
    struct work *work;
    struct team *team;
};

static void lend(void *given) {
    struct hand *hand = given;
    hand->share(hand->work, hand->team->number(), hand->team->size());
}

static void together(taking_part *share, struct work *work, long threads, struct team *team) {
    struct hand hand = {share, work, team};
    if (threads > 1)
        team->run(lend, &hand, threads, 0);
    else
        share(work, 0, 1);
}

/* What a call of a structure of that kind does: its NAME_share, by all threads. */
#define ENTRY(KIND, NAME)                                                                                             \
    void NAME(struct KIND *q, long threads, struct team *team) {                                                      \
        struct work work = {(void **)q};                                                                              \
        together(NAME##_share, &work, threads, team);                                                                 \
    }

/* m rows and n columns of a product; see BLOCK. */
FUSED COMPILED_ONCE static void rows_of_product(float *o, long on, long m, long n, const float *bias, const float *a,
                                                long am, long ak, const float *b, long bk, long k, int onto) {
    for (long j = 0; j < n; j += PANEL) {
        long width = n - j < PANEL ? n - j : PANEL, r = 0;
        const float *added = bias ? bias + j : 0;
#define STRIP(R) strip_##R(o + r * on + j, on, width, added, a + r * am, am, ak, b + j, bk, k, onto)
        for (; r <= m - 6; r += 6) STRIP(6);
        if (m - r == 5) STRIP(5);
        if (m - r == 4) STRIP(4);
        if (m - r == 3) STRIP(3);
        if (m - r == 2) STRIP(2);
        if (m - r == 1) STRIP(1);
#undef STRIP
    }
}

/* Terms of a sum that are taken at a time: as much of b as is near. */
#define DEPTH 512

/* A thread's share of a product: its columns, panel by panel, and where there are more threads than panels its rows.
   b's rows lie in order, or its columns do (bk is 1) and are laid out anew. */
COMPILED_ONCE static void product_share(float *o, long m, long n, long k, const float *bias, const float *a, long am,
                                        long ak, const float *b, long bk, long bn, long me, long all) {
    float turned[DEPTH * PANEL];
    long panels = (n + PANEL - 1) / PANEL, across = all;
    while (all % across || across > panels) across--;
    long column = me % across, row = me / across, down = all / across;
    long right = panels * (column + 1) / across * PANEL, top = m * row / down, bottom = m * (row + 1) / down;
    long pieces = (k + DEPTH - 1) / DEPTH, depth = (k + pieces - 1) / pieces;
    if (right > n) right = n;
    for (long j = panels * column / across * PANEL; j < right; j += PANEL) {
        long width = right - j < PANEL ? right - j : PANEL;
        for (long from = 0; from < k; from += depth) {
            long terms = k - from < depth ? k - from : depth, beside = bk;
            const float *near = b + from * bk + j * bn, *added = bias && from + terms == k ? bias + j : 0;
            if (bn != 1) {
                for (long i = 0; i < terms; i++)
                    for (long c = 0; c < width; c++) turned[i * PANEL + c] = near[i * bk + c * bn];
                near = turned;
                beside = PANEL;
            }
            rows_of_product(o + top * n + j, n, bottom - top, width, added, a + top * am + from * ak, am, ak, near,
                            beside, terms, from > 0);
        }
    }
}
#endif
