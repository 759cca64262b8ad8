/* Products whose operands are rounded to bfloat16 and summed in float32, where the processor has an
 * instruction for them: AMX, or AVX512-BF16.
 *
 * Both read pairs: what is summed over stands in pairs of neighbours, in squares of SQUARE rows by
 * SQUARE entries. On the left a square is two tiles of 16 rows, each row 16 pairs; on the right two
 * tiles of 16 columns, each row the pairs of these. So a tile is 16 vectors of 16 pairs, of 1 KiB. */

#include <immintrin.h>

#define SQUARE 32L
#define HALF 16
#define TILE_SIZE (HALF * SQUARE)
#define SQUARE_SIZE (SQUARE * SQUARE)

typedef uint16_t bfloat16;

/* Whether products use AMX, from their begin to their end. */
static int has_tiles = 0;

static inline __mmask16 mask_of(long count) {
    return count >= HALF ? 0xFFFF : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

/* Rounded, those of low before those of high. */
static inline __m512i rounded(__m512 low, __m512 high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* Rounded, in pairs: one of low, one of high. */
static inline __m512i paired(__m512 low, __m512 high) {
    static const uint16_t order[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                       8,  24, 9,  25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order), rounded(low, high));
}

/* So many entries that follow each other, up to SQUARE, and zeros. */
static inline __m512i in_line(const float *a, long count) {
    return rounded(_mm512_maskz_loadu_ps(mask_of(count), a),
                   _mm512_maskz_loadu_ps(mask_of(count - HALF), a + HALF));
}

/* Columns of pairs become rows. */
static inline void turn_pairs(__m512i x[HALF], bfloat16 *out) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 4
    for (int step = 1; step < HALF; step *= 2) {
        /* Of rows i and i + step, blocks of step lanes off the diagonal change places. */
        const __m512i bit = _mm512_set1_epi32(step), other = _mm512_set1_epi32(HALF - step);
        const __mmask16 second = _mm512_test_epi32_mask(lane, bit);
        const __m512i upper = _mm512_mask_add_epi32(lane, second, lane, other);
        const __m512i lower =
            _mm512_mask_add_epi32(_mm512_add_epi32(lane, bit), second, lane, _mm512_set1_epi32(HALF));
#pragma GCC unroll 16
        for (int i = 0; i < HALF; i++)
            if (!(i & step)) {
                const __m512i above = x[i], below = x[i + step];
                x[i] = _mm512_permutex2var_epi32(above, upper, below);
                x[i + step] = _mm512_permutex2var_epi32(above, lower, below);
            }
    }
#pragma GCC unroll 16
    for (int i = 0; i < HALF; i++) _mm512_storeu_si512(out + i * SQUARE, x[i]);
}

/* Up to SQUARE rows, down apart, of depth entries, of which SQUARE follow each other and then the next
 * begin, along apart: as squares on the left. */
static void left_of_rows(const float *a, long down, long along, long rows, long depth, bfloat16 *out) {
    for (long k = 0; k < depth; k += SQUARE, a += along, out += SQUARE_SIZE)
        for (long i = 0; i < SQUARE; i++)
            _mm512_storeu_si512(out + i * SQUARE,
                                i < rows ? in_line(a + i * down, depth - k) : _mm512_setzero_si512());
}

/* Up to SQUARE columns of a matrix with rows along apart: as squares on the left. */
static void left_of_columns(const float *a, long along, long columns, long depth, bfloat16 *out) {
    for (long k = 0; k < depth; k += SQUARE)
        for (long i = 0; i < SQUARE; i += HALF, out += TILE_SIZE) {
            const __mmask16 mask = mask_of(columns - i);
            __m512i x[HALF];
            for (long q = 0; q < HALF; q++) {
                const long first = k + 2 * q;
                const float *row = a + first * along + i;
                x[q] = paired(_mm512_maskz_loadu_ps(first < depth ? mask : 0, row),
                              _mm512_maskz_loadu_ps(first + 1 < depth ? mask : 0, row + along));
            }
            turn_pairs(x, out);
        }
}

/* The features of a panel: as squares on the right. */
static void right_of_features(const float *b, long depth, bfloat16 *out) {
    for (long k = 0; k < depth; k += SQUARE)
        for (long r = 0; r < SQUARE; r += HALF)
            for (long q = 0; q < HALF; q++, out += SQUARE) {
                const long first = k + 2 * q;
                const float *row = b + first * SQUARE + r;
                _mm512_storeu_si512(
                    out, paired(_mm512_maskz_loadu_ps(first < depth ? 0xFFFF : 0, row),
                                _mm512_maskz_loadu_ps(first + 1 < depth ? 0xFFFF : 0, row + SQUARE)));
            }
}

/* The rows of a batch, of up to SQUARE features that follow each other in panels, along apart: as
 * squares on the right. */
static void right_of_batch(const float *x, long along, long features, long batch, bfloat16 *out) {
    for (long k = 0; k < batch; k += SQUARE, x += along)
        for (long c = 0; c < SQUARE; c += HALF, out += TILE_SIZE) {
            __m512i lines[HALF];
            for (long q = 0; q < HALF; q++)
                lines[q] = c + q < features ? in_line(x + (c + q) * SQUARE, batch - k)
                                            : _mm512_setzero_si512();
            turn_pairs(lines, out);
        }
}

/* sums, of SQUARE by SQUARE, = the product of so many squares on the left and on the right. */
static void multiply_squares(int tiles, const bfloat16 *a, const bfloat16 *b, long count,
                             float *sums) {
#ifdef HAS_AMX
    if (tiles) {
        _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
        for (; count > 0; count--, a += SQUARE_SIZE, b += SQUARE_SIZE) {
            _tile_loadd(4, a, 64); _tile_loadd(5, a + TILE_SIZE, 64);
            _tile_loadd(6, b, 64); _tile_loadd(7, b + TILE_SIZE, 64);
            _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
        }
        const long stride = SQUARE * sizeof(float);
        _tile_stored(0, sums, stride); _tile_stored(1, sums + HALF, stride);
        sums += HALF * SQUARE;
        _tile_stored(2, sums, stride); _tile_stored(3, sums + HALF, stride);
        return;
    }
#else
    (void)tiles;
#endif
    for (long i = 0; i < SQUARE; i += 8) {
        const bfloat16 *left = a + i * SQUARE, *right = b;
        __m512 total[8][2];
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) total[j][0] = total[j][1] = _mm512_setzero_ps();
        for (long k = 0; k < count; k++, left += SQUARE_SIZE, right += SQUARE_SIZE)
            for (long q = 0; q < HALF; q++) {
                const __m512bh first = (__m512bh)_mm512_loadu_si512(right + q * SQUARE);
                const __m512bh second =
                    (__m512bh)_mm512_loadu_si512(right + TILE_SIZE + q * SQUARE);
#pragma GCC unroll 8
                for (int j = 0; j < 8; j++) {
                    int32_t pair;
                    memcpy(&pair, left + j * SQUARE + 2 * q, sizeof pair);
                    const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
                    total[j][0] = _mm512_dpbf16_ps(total[j][0], both, first);
                    total[j][1] = _mm512_dpbf16_ps(total[j][1], both, second);
                }
            }
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            _mm512_storeu_ps(sums + (i + j) * SQUARE, total[j][0]);
            _mm512_storeu_ps(sums + (i + j) * SQUARE + HALF, total[j][1]);
        }
    }
}

/* Memory for so many squares, and a thread's tiles at the ready: all eight of 16 rows of 64 bytes. */
static bfloat16 *begin_squares(int tiles, long count) {
    bfloat16 *memory = aligned_alloc(64, count * SQUARE_SIZE * sizeof(bfloat16));
#ifdef HAS_AMX
    static const struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    if (memory && tiles) _tile_loadconfig(&all);
#else
    (void)tiles;
#endif
    return memory;
}

static void end_squares(int tiles, bfloat16 *memory) {
#ifdef HAS_AMX
    if (tiles) _tile_release();
#else
    (void)tiles;
#endif
    free(memory);
}

/* product() of floats; returns 0 if there is no memory for it. */
static int product_bfloat16(const float *a, long down, long along, long count, const float *b,
                            long b_rows, long depth, long panels, float scale, const float *bias,
                            int relu, const float *mask, float *restrict out) {
    if (!panels) return 1;
    const int tiles = has_tiles;
    const long squares = (depth + SQUARE - 1) / SQUARE;
    bfloat16 *left = begin_squares(tiles, squares * (panels + 1)), *right = left + squares * SQUARE_SIZE;
    if (!left) return 0;
    for (long p = 0; p < panels; p++)
        right_of_features(b + p * b_rows * SQUARE, depth, right + p * squares * SQUARE_SIZE);
    for (long i = 0; i < count; i += SQUARE) {
        const long rows = count - i < SQUARE ? count - i : SQUARE;
        if (along == 1)
            left_of_rows(a + i * down, down, SQUARE, rows, depth, left);
        else
            left_of_columns(a + i, along, rows, depth, left);
        for (long p = 0; p < panels; p++) {
            const long at = (p * count + i) * SQUARE;
            float sums[SQUARE_SIZE];
            multiply_squares(tiles, left, right + p * squares * SQUARE_SIZE, squares, sums);
            finish(sums, rows, scale, bias ? bias + i : NULL, relu, mask ? mask + at : NULL,
                           out + at);
        }
    }
    end_squares(tiles, left);
    return 1;
}

/* Gradients of rows first to last of a layer's weight; returns 0 if there is no memory for it. */
static int to_weight_bfloat16(const Layer *layer, long batch, long first, long last) {
    if (first == last) return 1;
    const int tiles = has_tiles;
    const long m = layer->m, n = layer->n, squares = (batch + SQUARE - 1) / SQUARE;
    const long blocks = (last - first + SQUARE - 1) / SQUARE, size = squares * SQUARE_SIZE;
    const float *g = layer->ga, *x = layer->x, scale = (float)layer->scale;
    bfloat16 *right = begin_squares(tiles, squares * (blocks + 1)), *left = right + size;
    if (!right) return 0;
    for (long i = first; i < last; i += SQUARE)
        left_of_rows(g + i * SQUARE, SQUARE, m * SQUARE, last - i, batch,
                     left + (i - first) / SQUARE * size);
    for (long c = 0; c < n; c += SQUARE) {
        const long width = n - c < SQUARE ? n - c : SQUARE;
        right_of_batch(x + c * SQUARE, layer->x_rows * SQUARE, width, batch, right);
        for (long i = first; i < last; i += SQUARE) {
            const long rows = last - i < SQUARE ? last - i : SQUARE;
            float sums[SQUARE_SIZE];
            multiply_squares(tiles, left + (i - first) / SQUARE * size, right, squares, sums);
            for (long q = 0; q < rows; q++) {
                float *out = (float *)layer->gw + (i + q) * n + c;
                for (long r = 0; r < width; r++) out[r] = scale * sums[q * SQUARE + r];
            }
        }
    }
    end_squares(tiles, right);
    return 1;
}
