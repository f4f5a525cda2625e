/* Rows of zeros with ones at some places, as lists of the places: their product with a matrix is a sum of its rows. */

/* o (n): the sum of so many rows of a matrix (rows, n), in their order. */
INLINE void sum_of_rows(float *o, long n, const float *matrix, const unsigned *rows, long count) {
    long j = 0;
    for (; j + 64 <= n; j += 64) {
        v16 sums[4] = {{0}};
        for (long i = 0; i < count; i++)
            for (int c = 0; c < 4; c++) sums[c] += *(const v16 *)(matrix + (long)rows[i] * n + j + 16 * c);
        for (int c = 0; c < 4; c++) *(v16 *)(o + j + 16 * c) = sums[c];
    }
    for (; j + 16 <= n; j += 16) {
        v16 sums = {0};
        for (long i = 0; i < count; i++) sums += *(const v16 *)(matrix + (long)rows[i] * n + j);
        *(v16 *)(o + j) = sums;
    }
    for (; j < n; j++) {
        float sum = 0;
        for (long i = 0; i < count; i++) sum += matrix[(long)rows[i] * n + j];
        o[j] = sum;
    }
}

/* x (n) added to so many rows of a matrix (rows, n): those from `low` to below `high`, where they are in that order. */
INLINE void add_to_rows(float *matrix, long n, const float *x, const unsigned *rows, long count, long low, long high) {
    long i = 0;
    while (i < count && rows[i] < low) i++;
    for (; i < count && rows[i] < high; i++) {
        float *sum = matrix + (long)rows[i] * n;
        long j = 0;
        for (; j + 16 <= n; j += 16) *(v16 *)(sum + j) += *(const v16 *)(x + j);
        for (; j < n; j++) sum[j] += x[j];
    }
}
