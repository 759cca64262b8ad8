/* Matrix products on panels.
 *
 * A matrix of a batch is kept in panels of PANEL of its rows, each panel a matrix of features by rows:
 * one feature of all rows of a panel fills two vector registers. Then what passes through a layer,
 * forward and backward, is a product of its stored weight, read entry by entry, with panels, read by
 * registers: nothing has to be packed. */

typedef REAL Vector __attribute__((vector_size(VECTOR), aligned(sizeof(REAL)), may_alias));

/* The left operand of a product: a(i, k) is a[i · pitch + k], or of a weight's transpose
 * a[k · pitch + i]. */
enum { WEIGHT, TRANSPOSE, GRADIENT };

/* sums[i] += sum_k a(i, k) b[k] for i < rows and k < depth, and so on, times in all, with the a that is
 * next apart and what follows in b. b and sums are of rows of PANEL, of which the first registers count,
 * one or two. way, rows and registers are constants. Of a weight, some of what comes after these rows is
 * fetched meanwhile: it may be far away, in pieces too short for the processor to foresee. */
static inline __attribute__((always_inline)) void multiply(
    const int way, const int rows, const int registers, const REAL *a, long pitch,
    const REAL *b, long depth, long times, long next, REAL *sums) {
    Vector total[TILE][2], *place = (Vector *)sums;
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < registers; j++) total[i][j] = place[2 * i + j];
    for (; times > 0; times--, a += next) {
        const REAL *ahead = way == TRANSPOSE ? a + 2 * rows - 1 : a + rows * pitch;
        for (long k = 0; k < depth; k++, b += PANEL) {
            const Vector *row = (const Vector *)b;
            Vector entries[2];
            if (way != GRADIENT) {
                const long is_within = (k + 1) % (DEPTH / LINE);
                __builtin_prefetch(ahead);
                ahead += way == TRANSPOSE ? pitch : is_within ? LINE : pitch - DEPTH + LINE;
            }
#pragma GCC unroll 2
            for (int j = 0; j < registers; j++) entries[j] = row[j];
#pragma GCC unroll 12
            for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
                for (int j = 0; j < registers; j++)
                    total[i][j] += a[way == TRANSPOSE ? k * pitch + i : i * pitch + k] * entries[j];
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < registers; j++) place[2 * i + j] = total[i][j];
}

/* The same for a number of rows that is no constant, up to TILE. */
static inline __attribute__((always_inline)) void multiply_some(
    const int way, long rows, const int registers, const REAL *a, long pitch, const REAL *b,
    long depth, long times, long next, REAL *sums) {
    if (rows == TILE) {
        multiply(way, TILE, registers, a, pitch, b, depth, times, next, sums);
        return;
    }
    const long down = way == TRANSPOSE ? 1 : pitch;
    for (; rows >= 4; rows -= 4, a += 4 * down, sums += 4 * PANEL)
        multiply(way, 4, registers, a, pitch, b, depth, times, next, sums);
    for (; rows > 0; rows--, a += down, sums += PANEL)
        multiply(way, 1, registers, a, pitch, b, depth, times, next, sums);
}

/* Of rows of a panel: out = scale · sums + bias, and then 0 where it is below, if relu, or where mask is
 * not above. bias and mask, which is of the shape of out, may be NULL. */
static inline void finish(const REAL *sums, long rows, REAL scale, const REAL *bias, int relu,
                          const REAL *mask, REAL *restrict out) {
    for (long q = 0; q < rows; q++) {
        const REAL shift = bias ? bias[q] : 0;
        const REAL *sum = sums + q * PANEL, *kept = mask ? mask + q * PANEL : NULL;
        REAL *restrict place = out + q * PANEL;
        if (relu)
#pragma omp simd
            for (long r = 0; r < PANEL; r++) {
                const REAL value = scale * sum[r] + shift;
                place[r] = value < 0 ? 0 : value; /* a NaN stays one */
            }
        else if (kept)
#pragma omp simd
            for (long r = 0; r < PANEL; r++) place[r] = kept[r] <= 0 ? 0 : scale * sum[r] + shift;
        else
#pragma omp simd
            for (long r = 0; r < PANEL; r++) place[r] = scale * sum[r] + shift;
    }
}

/* out[i] = scale · sum_k a(i, k) b[k] + bias[i] for i < count, in each of some panels that follow each
 * other, and what finish() does then; a as multiply() has it. */
static inline __attribute__((always_inline)) void product_of(
    const int way, const REAL *a, long pitch, long count, const REAL *b, long b_rows, long depth,
    long panels, REAL scale, const REAL *bias, int relu, const REAL *mask, REAL *restrict out) {
    for (long p = 0; p < panels; p++)
        for (long start = 0; start < depth; start += DEPTH) {
            const long some = depth - start < DEPTH ? depth - start : DEPTH;
            const REAL *part = b + (p * b_rows + start) * PANEL;
            for (long i = 0; i < count; i += TILE) {
                const long rows = count - i < TILE ? count - i : TILE, at = (p * count + i) * PANEL;
                const size_t bytes = rows * PANEL * sizeof(REAL);
                REAL sums[TILE * PANEL] = {0};
                if (start) memcpy(sums, out + at, bytes);
                for (long c = 0; mask && c < rows * PANEL; c += LANES)
                    __builtin_prefetch(mask + at + c);
                const long from = way == TRANSPOSE ? start * pitch + i : i * pitch + start;
                multiply_some(way, rows, 2, a + from, pitch, part, some, 1, 0, sums);
                if (start + some < depth)
                    memcpy(out + at, sums, bytes);
                else
                    finish(sums, rows, scale, bias ? bias + i : NULL, relu,
                           mask ? mask + at : NULL, out + at);
            }
        }
}

/* product_of() with a(i, k) = a[i · down + k · along], of which one is 1. */
static void product(const REAL *a, long down, long along, long count, const REAL *b, long b_rows,
                    long depth, long panels, REAL scale, const REAL *bias, int relu,
                    const REAL *mask, REAL *restrict out) {
    if (along == 1)
        product_of(WEIGHT, a, down, count, b, b_rows, depth, panels, scale, bias, relu, mask, out);
    else
        product_of(TRANSPOSE, a, along, count, b, b_rows, depth, panels, scale, bias, relu, mask, out);
}

/* out[r][c] = in[c][r] for c < count and r < PANEL, rows of both PANEL apart. */
static inline void turn(const REAL *restrict in, long count, REAL *restrict out) {
    const long squares = count / SIDE * SIDE;
    for (long r = 0; r < PANEL; r += SIDE)
        for (long c = 0; c < squares; c += SIDE)
#pragma GCC unroll 4
            for (int i = 0; i < SIDE; i++)
#pragma GCC unroll 4
                for (int j = 0; j < SIDE; j++)
                    out[(r + i) * PANEL + c + j] = in[(c + j) * PANEL + r + i];
    for (long c = squares; c < count; c++)
        for (long r = 0; r < PANEL; r++) out[r * PANEL + c] = in[c * PANEL + r];
}
