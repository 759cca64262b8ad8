/* Tracking of leading singular vectors for one matrix.
 *
 * The algorithm is that of track() in snrl/spectral/tracking.py, which is its oracle. What differs:
 * a vector that depends on others is replaced in the basis by noise, where Householder QR completes
 * it with other arbitrary ones, and a matrix that is not finite leaves its vectors as they were, to rounding.
 */

/* Not into each of its callers: at the first use, somebody waits for the compiler. */
#define ONCE_COMPILED __attribute__((noinline))

/* The sum of a register's numbers. */
static inline REAL add_up(Vector all) {
    REAL lanes[LANES];
    *(Vector *)lanes = all;
    for (long half = LANES / 2; half; half /= 2)
#pragma omp simd
        for (long k = 0; k < half; k++) lanes[k] += lanes[k + half];
    return lanes[0];
}

/* y[p · m + i] = <x[p], w[i]> for i < rows and p < q, constants: vectors of length n. */
static inline __attribute__((always_inline)) void inner_some(
    const int rows, const int q, const REAL *restrict w, long m, long n, const REAL *restrict x,
    REAL *restrict y) {
    Vector total[WIDE][4];
    const long whole = n - n % LANES;
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int p = 0; p < q; p++) total[i][p] = (Vector){0};
    for (long c = 0; c < whole; c += LANES) {
        Vector entries[4];
#pragma GCC unroll 4
        for (int p = 0; p < q; p++) entries[p] = *(const Vector *)(x + p * n + c);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            const Vector row = *(const Vector *)(w + i * n + c);
#pragma GCC unroll 4
            for (int p = 0; p < q; p++) total[i][p] += row * entries[p];
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int p = 0; p < q; p++) {
            REAL sum = add_up(total[i][p]);
            for (long c = whole; c < n; c++) sum += x[p * n + c] * w[i * n + c];
            y[p * m + i] = sum;
        }
}

/* The same for all m rows of w. */
static inline __attribute__((always_inline)) void inner_rows(
    const int q, const REAL *restrict w, long m, long n, const REAL *restrict x,
    REAL *restrict y) {
    long i = 0;
    for (; i + WIDE <= m; i += WIDE) inner_some(WIDE, q, w + i * n, m, n, x, y + i);
    for (; i < m; i++) inner_some(1, q, w + i * n, m, n, x, y + i);
}

/* y[p][i] = <x[p], w[i]> for q rows x and m rows w of length n. */
static ONCE_COMPILED void inner(const REAL *restrict w, long m, long n, const REAL *restrict x,
                                long q, REAL *restrict y) {
    for (; q >= 4; q -= 4, x += 4 * n, y += 4 * m) inner_rows(4, w, m, n, x, y);
    for (; q > 0; q--, x += n, y += m) inner_rows(1, w, m, n, x, y);
}

static ONCE_COMPILED REAL dot(const REAL *x, const REAL *y, long n) {
    REAL sum;
    inner_some(1, 1, x, 1, n, y, &sum);
    return sum;
}

/* y[p] += sum_i a[p][i] w[i] for rows p and the columns of some registers, both constants. */
static inline __attribute__((always_inline)) void combine_some(
    const int rows, const int registers, const REAL *restrict w, long m, long n,
    const REAL *restrict a, REAL *restrict y) {
    Vector total[4][WIDE];
#pragma GCC unroll 4
    for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
        for (int k = 0; k < registers; k++) total[p][k] = ((Vector *)(y + p * n))[k];
    for (long i = 0; i < m; i++) {
        const Vector *row = (const Vector *)(w + i * n);
        Vector entries[WIDE];
#pragma GCC unroll 4
        for (int k = 0; k < registers; k++) entries[k] = row[k];
#pragma GCC unroll 4
        for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
            for (int k = 0; k < registers; k++) total[p][k] += a[p * m + i] * entries[k];
    }
#pragma GCC unroll 4
    for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
        for (int k = 0; k < registers; k++) ((Vector *)(y + p * n))[k] = total[p][k];
}

/* The same for all columns. */
static inline __attribute__((always_inline)) void combine_rows(
    const int rows, const REAL *restrict w, long m, long n, const REAL *restrict a,
    REAL *restrict y) {
    long c = 0;
    for (; c + WIDE * LANES <= n; c += WIDE * LANES)
        combine_some(rows, WIDE, w + c, m, n, a, y + c);
    for (; c + LANES <= n; c += LANES) combine_some(rows, 1, w + c, m, n, a, y + c);
    for (long i = 0; c < n && i < m; i++)
        for (int p = 0; p < rows; p++)
            for (long k = c; k < n; k++) y[p * n + k] += a[p * m + i] * w[i * n + k];
}

/* y[p] += sum_i a[p][i] w[i] for q rows a of length m: q rows of length n. */
static ONCE_COMPILED void combine(const REAL *restrict w, long m, long n, const REAL *restrict a,
                                  long q, REAL *restrict y) {
    for (; q >= 4; q -= 4, a += 4 * m, y += 4 * n) combine_rows(4, w, m, n, a, y);
    for (; q > 0; q--, a += m, y += n) combine_rows(1, w, m, n, a, y);
}

/* Divides x by its largest magnitude and returns that: 0 for zero, NaN where x is not finite. */
static REAL rescale(REAL *restrict x, long n) {
    REAL largest = 0, check = 0;
#pragma omp simd reduction(max : largest) reduction(+ : check)
    for (long c = 0; c < n; c++) {
        const REAL magnitude = ABS(x[c]);
        largest = magnitude > largest ? magnitude : largest;
        check += x[c] * 0; /* a comparison alone overlooks a NaN */
    }
    if (check != 0) return NAN;
    if (largest == 0) return 0;
#pragma omp simd
    for (long c = 0; c < n; c++) x[c] /= largest; /* its inverse may overflow */
    return largest;
}

/* Scales a row to unit length; one of length zero, or nearly so, stays. */
static REAL normalize(REAL *restrict row, long n) {
    const REAL norm = SQRT(dot(row, row, n)), rate = 1 / norm;
    if (isfinite(rate))
#pragma omp simd
        for (long c = 0; c < n; c++) row[c] *= rate;
    return norm;
}

/* Fills a row with numbers that look random, the same ones for the same q. Without them a block that
 * spans an invariant subspace would never see what overtakes outside of it. */
static void fill(REAL *restrict row, long n, uint64_t q) {
    uint64_t state = (q + 1) * 0x9E3779B97F4A7C15u;
    for (long c = 0; c < n; c++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        row[c] = (REAL)((int64_t)(state >> 33) - (1ll << 30)) / (1ll << 30);
    }
}

/* Makes the rows after the first r, which are orthonormal, orthonormal to these and each other.
 *
 * Against the first ones by projection, among themselves by Cholesky factors of their Gram matrix,
 * both twice, because once leaves what rounding and a bad condition left. Rows of which nothing is
 * left in the first pass become noise; kept[q] becomes 0 where the space has no room for these
 * either, and the row zero. */
static void orthonormalize(REAL *restrict basis, long r, long size, long n,
                           REAL *restrict fresh, int *restrict kept) {
    const long others = size - r;
    REAL *rest = basis + r * n, shares[MAX_BASIS * MAX_BASIS];
    double factor[MAX_BASIS * MAX_BASIS], inverse[MAX_BASIS * MAX_BASIS];
    for (long q = 0; q < size; q++) kept[q] = 1;
    for (int pass = 0, passes = 2; pass < passes; pass++) {
        for (long q = 0; pass == 1 && q < others; q++)
            if (!kept[r + q]) {
                fill(rest + q * n, n, (uint64_t)q);
                kept[r + q] = 1;
                passes = 3;
            }
        for (long q = 0; q < others; q++) {
            const REAL before = normalize(rest + q * n, n);
            if (!(before > 0)) kept[r + q] = 0;
        }
        inner(basis, r, n, rest, others, shares);
        for (long k = 0; k < others * r; k++) shares[k] = -shares[k];
        combine(basis, r, n, shares, others, rest);
        for (long q = 0; q < others; q++) {
            const REAL left = normalize(rest + q * n, n);
            if (!(left > 16 * EPSILON)) kept[r + q] = 0;
        }
        inner(rest, others, n, rest, others, shares);
        for (long k = 0; k < others * others; k++) factor[k] = shares[k];
        /* Cholesky, row by row, and the inverse of the factor along with it. */
        for (long q = 0; q < others; q++) {
            double *restrict row = factor + q * others, *restrict out = inverse + q * others;
            for (long p = 0; p < q; p++) {
                double sum = row[p];
                for (long k = 0; k < p; k++) sum -= row[k] * factor[p * others + k];
                row[p] = kept[r + p] ? sum / factor[p * others + p] : 0;
            }
            double left = row[q];
            for (long k = 0; k < q; k++) left -= row[k] * row[k];
            /* Below this the Gram matrix, in the precision of REAL, holds nothing but noise. */
            if (!(left > 64 * EPSILON)) kept[r + q] = 0;
            row[q] = kept[r + q] ? sqrt(left) : 1;
            for (long p = 0; p < others; p++) out[p] = p == q && kept[r + q];
            for (long k = 0; kept[r + q] && k < q; k++)
                for (long p = 0; p <= k; p++) out[p] -= row[k] * inverse[k * others + p];
            for (long p = 0; p <= q; p++) out[p] /= row[q];
        }
        for (long k = 0; k < others * others; k++) shares[k] = (REAL)inverse[k];
        memset(fresh, 0, sizeof(REAL) * others * n);
        combine(rest, others, n, shares, others, fresh);
        memcpy(rest, fresh, sizeof(REAL) * others * n);
    }
}

/* uᵀ W v; the same to the last bit wherever it is called. */
__attribute__((noinline)) double sigma_of(const REAL *restrict w, long m, long n,
                                           const REAL *restrict u, const REAL *restrict v) {
    REAL image[SHARE];
    double sigma = 0;
    for (long first = 0; first < m; first += SHARE) {
        const long rows = m - first < SHARE ? m - first : SHARE;
        inner(w + first * n, rows, n, v, 1, image);
        for (long i = 0; i < rows; i++) sigma += (double)u[first + i] * image[i];
    }
    return sigma;
}

/* Each step turns the block by a matrix that is orthogonal but for rounding, which would add up: takes
 * what has done so away again. */
static void straighten(REAL *restrict block, long r, long n) {
    for (long q = 0; q < r; q++) {
        REAL shares[MAX_BASIS];
        inner(block, q, n, block + q * n, 1, shares);
        for (long p = 0; p < q; p++)
#pragma omp simd
            for (long c = 0; c < n; c++) block[q * n + c] -= shares[p] * block[p * n + c];
        normalize(block + q * n, n);
    }
}

/* scratch holds 6r (n + m) numbers. */
static void track(const REAL *restrict w, long m, long n, long r, REAL *restrict u,
                  REAL *restrict block, REAL *restrict direction, REAL *restrict scratch,
                  long n_power_iterations, double rtol, long max_steps,
                  double *sigma) {
    const long size = 3 * r;
    REAL *basis = scratch, *fresh = basis + size * n, *image = fresh + size * n,
         *turned = image + size * m;
    REAL shares[MAX_BASIS * MAX_BASIS];
    double gram[MAX_BASIS * MAX_BASIS], ritz[MAX_BASIS * MAX_BASIS], squares[MAX_BASIS];
    double before[MAX_BASIS];
    int kept[MAX_BASIS], grows = 1;
    straighten(block, r, n);
    inner(w, m, n, block, r, image);
    for (long step = 1; step <= n_power_iterations || (grows && step <= max_steps); step++) {
        const REAL scale = rescale(image, r * m);
        if (!(scale > 0)) return;
        for (long p = 0; p < r; p++)
            before[p] = sqrt((double)dot(image + p * m, image + p * m, m));
        memcpy(basis, block, sizeof(REAL) * r * n);
        memset(basis + r * n, 0, sizeof(REAL) * r * n);
        combine(w, m, n, image, r, basis + r * n);
        if (isnan(rescale(basis + r * n, r * n))) return;
        memcpy(basis + 2 * r * n, direction, sizeof(REAL) * r * n);
        orthonormalize(basis, r, size, n, fresh, kept);
        inner(w, m, n, basis + r * n, size - r, image + r * m);
        for (long c = r * m; c < size * m; c++) image[c] /= scale;
        inner(image, size, m, image, size, shares);
        for (long p = 0; p < size; p++)
            for (long q = 0; q <= p; q++)
                gram[p * size + q] = gram[q * size + p] = shares[p * size + q];
        /* Below every true value, so that what was dropped is chosen last. */
        for (long p = 0; p < size; p++)
            if (!kept[p]) gram[p * size + p] = -1;
        symmetric_eigen(gram, size, squares, ritz, 1e-3 * EPSILON);
        const double largest = sqrt(squares[0] > 0 ? squares[0] : 0);
        grows = 0;
        for (long p = 0; p < r; p++)
            grows |= sqrt(squares[p] > 0 ? squares[p] : 0) - before[p] > rtol * largest;
        for (long c = 0; c < r * size; c++) shares[c] = (REAL)ritz[c];
        memset(block, 0, sizeof(REAL) * r * n);
        combine(basis, size, n, shares, r, block);
        straighten(block, r, n);
        memset(turned, 0, sizeof(REAL) * r * m);
        combine(image, size, m, shares, r, turned);
        for (long p = 0; p < r; p++) memset(shares + p * size, 0, sizeof(REAL) * r);
        memset(direction, 0, sizeof(REAL) * r * n);
        combine(basis, size, n, shares, r, direction);
        for (long p = 0; p < r; p++) normalize(direction + p * n, n);
        for (long c = 0; c < r * m; c++) image[c] = turned[c] * scale;
    }
    if (rescale(image, m) > 0 && normalize(image, m) > 0) {
        memcpy(u, image, sizeof(REAL) * m);
        *sigma = sigma_of(w, m, n, u, block);
    }
}

/* g += share · u vᵀ, for rows first to last. */
static void add_outer(REAL *restrict g, long first, long last, long n, double share,
                      const REAL *restrict u, const REAL *restrict v) {
    for (long i = first; i < last; i++) {
        const REAL entry = (REAL)(share * u[i]);
#pragma omp simd
        for (long c = 0; c < n; c++) g[i * n + c] += entry * v[c];
    }
}

/* g += slope · ⟨g, w⟩ · u vᵀ. */
void through_sigma(REAL *restrict g, const REAL *restrict w, long m, long n, const REAL *restrict u,
                   const REAL *restrict v, double slope, int threads) {
    double overlap = 0;
    for (long i = 0; i < m; i++) overlap += dot(g + i * n, w + i * n, n);
#pragma omp parallel num_threads(threads) if (threads > 1 && m * n > WORTH_A_THREAD)
    add_outer(g, PART(THREAD, THREADS, m), PART(THREAD + 1, THREADS, m), n, slope * overlap, u, v);
}
