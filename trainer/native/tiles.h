/* Products of bfloat16 by tiles, where the processor has them (AMX) and the system lets this program use them: 16 rows
   of a matrix's pairs and 16 columns of another one's at a time, added to sums in float. Numbers below 1e-38 are zeros. */
#if defined(__AMX_BF16__) && defined(__linux__) && !defined(WITHOUT_TILES)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TILE_STATE 18
#define ASK_FOR_STATE 0x1023

static int has_tiles;

/* Asked when the library is loaded, by one thread for all. */
__attribute__((constructor)) static void ask_for_tiles(void) {
    has_tiles = !syscall(SYS_arch_prctl, ASK_FOR_STATE, TILE_STATE);
}

/* Tiles 0 to 3 are sums of two tiles of rows (4, 5) and two of columns (6, 7). A thread says how many rows they have
   before it uses them, and drops them at the end. */
INLINE void set_tiles(long rows) {
    struct {
        unsigned char palette, start, unused[14];
        unsigned short bytes[16];
        unsigned char rows[16];
    } how = {1};
    for (int t = 0; t < 8; t++) how.bytes[t] = 64, how.rows[t] = t < 6 ? rows : 16;
    _tile_loadconfig(&how);
}

INLINE void drop_tiles(void) { _tile_release(); }

/* The compiler does not know what loading a tile reads. */
#define WRITTEN __asm__ volatile("" ::: "memory")

INLINE void no_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* Sums to go on from, as of `put_sums`. */
INLINE void take_sums(const float *one, const float *other, long apart) {
    _tile_loadd(0, one, 4 * apart);
    _tile_loadd(1, one + 16, 4 * apart);
    _tile_loadd(2, other, 4 * apart);
    _tile_loadd(3, other + 16, 4 * apart);
}

/* 16 pairs of two tiles of rows, whose rows are `apart` (in bytes), times 16 rows of pairs of up to 32 columns. */
INLINE void plus_tiles(const half *one, const half *other, long apart, const unsigned *columns, long beside, int both) {
    _tile_loadd(4, one, apart);
    _tile_loadd(6, columns, 4 * beside);
    _tile_dpbf16ps(0, 4, 6);
    if (both) {
        _tile_loadd(7, columns + 16, 4 * beside);
        _tile_dpbf16ps(1, 4, 7);
    }
    _tile_loadd(5, other, apart);
    _tile_dpbf16ps(2, 5, 6);
    if (both) _tile_dpbf16ps(3, 5, 7);
}

/* The sums to where rows of the first tile and of the second begin, whose rows are `apart` (in numbers). */
INLINE void put_sums(float *one, float *other, long apart, int both) {
    _tile_stored(0, one, 4 * apart);
    _tile_stored(2, other, 4 * apart);
    if (!both) return;
    _tile_stored(1, one + 16, 4 * apart);
    _tile_stored(3, other + 16, 4 * apart);
}

/* 16 rows of 16 numbers become columns. */
INLINE void turned_16(unsigned *to, long beside, const unsigned *from, long apart) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * apart);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int half = 0; half < 2; half++) {
            a[i + 2 * half] = _mm512_unpacklo_epi64(b[i + half], b[i + 2 + half]);
            a[i + 2 * half + 1] = _mm512_unpackhi_epi64(b[i + half], b[i + 2 + half]);
        }
    /* Quarter q of a[4 i + j] has column 4 q + j of rows 4 i to 4 i + 3. */
    for (int j = 0; j < 4; j++) {
        __m512i even = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88), odd = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xdd);
        __m512i even_below = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88);
        __m512i odd_below = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xdd);
        _mm512_storeu_si512(to + j * beside, _mm512_shuffle_i32x4(even, even_below, 0x88));
        _mm512_storeu_si512(to + (4 + j) * beside, _mm512_shuffle_i32x4(odd, odd_below, 0x88));
        _mm512_storeu_si512(to + (8 + j) * beside, _mm512_shuffle_i32x4(even, even_below, 0xdd));
        _mm512_storeu_si512(to + (12 + j) * beside, _mm512_shuffle_i32x4(odd, odd_below, 0xdd));
    }
}
#else
#define has_tiles 0
#define set_tiles(ROWS)
#define drop_tiles()
#define WRITTEN
#define no_sums()
#define take_sums(ONE, OTHER, APART)
#define turned_16(TO, BESIDE, FROM, APART)
#define plus_tiles(ONE, OTHER, APART, COLUMNS, BESIDE, BOTH)
#define put_sums(ONE, OTHER, APART, BOTH)
#endif
