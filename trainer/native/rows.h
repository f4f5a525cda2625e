/* Vectors added up by id: the way back from a table of vectors. A thread takes some columns of all of them, so that each
   sum has its terms in their order. */
#define SHARED
#include "kernels.h"

/* Vectors (vectors, width), the id of each, and sums (ids, width); the width is a multiple of 16. */
struct rows {
    long vectors, ids, width;
    const float *x;
    const whole *places;
    float *sums;
};

void rows_added_up_share(struct work *work, long me, long all) {
    const struct rows *q = (struct rows *)work->p;
    long from = FROM(q->width / 16) * 16, to = TO(q->width / 16) * 16;
    if (from == to) return;
    for (long i = 0; i < q->ids; i++) memset(q->sums + i * q->width + from, 0, 4 * (to - from));
    for (long n = 0; n < q->vectors; n++) {
        float *sum = q->sums + q->places[n] * q->width;
        const float *x = q->x + n * q->width;
        for (long j = from; j < to; j += 16) *(v16 *)(sum + j) += *(const v16 *)(x + j);
    }
}

ENTRY(rows, rows_added_up)
