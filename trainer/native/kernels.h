/* What the C that trainer writes for a model's steps is made of. Sizes are constants where these are used, so that
   the compiler unrolls and keeps sums in registers. Each sum over k goes from the first to the last term, fused. */
#include <math.h>
#include <string.h>

typedef long long whole;
#define INLINE static inline __attribute__((always_inline))
#define VECTOR(W) typedef float v##W __attribute__((vector_size(4 * W), aligned(4), may_alias));
VECTOR(16)
VECTOR(8)
VECTOR(4)

/* R rows and C vectors of W columns of o = a b (+ bias): a is read at any stride, b along its rows. */
#define BLOCK(NAME, W, R, C)                                                                                          \
    INLINE void NAME(float *o, long n, const float *bias, const float *a, long am, long ak, const float *b, long bk,  \
                     long k) {                                                                                        \
        v##W sum[R][C];                                                                                               \
        for (int r = 0; r < R; r++)                                                                                   \
            for (int c = 0; c < C; c++) sum[r][c] = (v##W){0};                                                        \
        for (long i = 0; i < k; i++)                                                                                  \
            for (int c = 0; c < C; c++) {                                                                             \
                v##W row = *(const v##W *)(b + i * bk + c * W);                                                       \
                for (int r = 0; r < R; r++) sum[r][c] += a[r * am + i * ak] * row;                                    \
            }                                                                                                         \
        for (int r = 0; r < R; r++)                                                                                   \
            for (int c = 0; c < C; c++)                                                                               \
                *(v##W *)(o + r * n + c * W) =                                                                        \
                    bias ? (v##W)(sum[r][c] + *(const v##W *)(bias + c * W)) : sum[r][c];                             \
    }

#define COLUMN(R)                                                                                                     \
    INLINE void column_##R(float *o, long n, const float *bias, const float *a, long am, long ak, const float *b,     \
                           long bk, long k) {                                                                         \
        float sum[R] = {0};                                                                                           \
        for (long i = 0; i < k; i++)                                                                                  \
            for (int r = 0; r < R; r++) sum[r] += a[r * am + i * ak] * b[i * bk];                                     \
        for (int r = 0; r < R; r++) o[r * n] = bias ? sum[r] + *bias : sum[r];                                        \
    }

#define ROWS(R)                                                                                                       \
    BLOCK(wide_##R, 16, R, 4)                                                                                         \
    BLOCK(sixteen_##R, 16, R, 1)                                                                                      \
    BLOCK(eight_##R, 8, R, 1)                                                                                         \
    BLOCK(four_##R, 4, R, 1)                                                                                          \
    COLUMN(R)                                                                                                         \
    INLINE void strip_##R(float *o, long n, const float *bias, const float *a, long am, long ak, const float *b,      \
                          long bk, long k) {                                                                          \
        long j = 0;                                                                                                   \
        for (; j <= n - 64; j += 64) wide_##R(o + j, n, bias ? bias + j : 0, a, am, ak, b + j, bk, k);                \
        for (; j <= n - 16; j += 16) sixteen_##R(o + j, n, bias ? bias + j : 0, a, am, ak, b + j, bk, k);             \
        for (; j <= n - 8; j += 8) eight_##R(o + j, n, bias ? bias + j : 0, a, am, ak, b + j, bk, k);                 \
        for (; j <= n - 4; j += 4) four_##R(o + j, n, bias ? bias + j : 0, a, am, ak, b + j, bk, k);                  \
        for (; j < n; j++) column_##R(o + j, n, bias ? bias + j : 0, a, am, ak, b + j, bk, k);                        \
    }
ROWS(4)
ROWS(3)
ROWS(2)
ROWS(1)

/* o (m, n) = a (m, k) b (k, n) (+ bias), where b's rows lie in order. */
INLINE void product(float *o, long m, long n, long k, const float *bias, const float *a, long am, long ak,
                    const float *b, long bk) {
    long whole_rows = m - m % 4;
    for (long r = 0; r < whole_rows; r += 4) strip_4(o + r * n, n, bias, a + r * am, am, ak, b, bk, k);
    o += whole_rows * n;
    a += whole_rows * am;
    if (m % 4 == 3) strip_3(o, n, bias, a, am, ak, b, bk, k);
    if (m % 4 == 2) strip_2(o, n, bias, a, am, ak, b, bk, k);
    if (m % 4 == 1) strip_1(o, n, bias, a, am, ak, b, bk, k);
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

INLINE void softmax_row(float *o, const float *x, long n) {
    float most = x[0], sum = 0;
    for (long i = 1; i < n; i++) most = x[i] > most || x[i] != x[i] ? x[i] : most;
    for (long i = 0; i < n; i++) sum += o[i] = expf(x[i] - most);
    for (long i = 0; i < n; i++) o[i] /= sum;
}
