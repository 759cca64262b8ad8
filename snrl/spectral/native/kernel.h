/* Tracking of leading singular vectors for one matrix.
 *
 * The algorithm is that of track() in snrl/spectral/tracking.py, which is its oracle. What differs:
 * a vector that depends on others is replaced in the basis by noise, where Householder QR completes
 * it with other arbitrary ones, and a matrix that is not finite leaves its vectors as they were, to rounding.
 */

static REAL dot(const REAL *restrict x, const REAL *restrict y, long n) {
    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long c = 0; c < n; c++) sum += x[c] * y[c];
    return sum;
}

/* out[p] = <x[p], y> for count rows x, some at a time, so that no sum waits for itself. */
static void dots(const REAL *restrict x, long count, const REAL *restrict y, long n,
                 REAL *restrict out) {
    for (; count >= 4; count -= 4, x += 4 * n, out += 4) {
        const REAL *x1 = x + n, *x2 = x1 + n, *x3 = x2 + n;
        REAL s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
        for (long c = 0; c < n; c++) {
            s0 += x[c] * y[c], s1 += x1[c] * y[c];
            s2 += x2[c] * y[c], s3 += x3[c] * y[c];
        }
        out[0] = s0, out[1] = s1, out[2] = s2, out[3] = s3;
    }
    for (; count > 0; count--, x += n) *out++ = dot(x, y, n);
}

/* y[p][i] = <x[p], w[i]> for q rows x of length n and the m rows of w.
 *
 * More than four rows of x are taken eight at a time, interleaved in panel (8n numbers), so that a
 * vector register holds one entry of each and no sum ever runs across a register. */
static void images(const REAL *restrict w, long m, long n, const REAL *restrict x, long q,
                   REAL *restrict y, REAL *restrict panel) {
    for (long i = 0; q <= 4 && i < m; i++) {
        REAL found[4];
        dots(x, q, w + i * n, n, found);
        for (long p = 0; p < q; p++) y[p * m + i] = found[p];
    }
    for (long first = 0; q > 4 && first < q; first += LANES) {
        const long rows = q - first < LANES ? q - first : LANES;
        for (long c = 0; c < n; c++)
            for (long p = 0; p < LANES; p++)
                panel[c * LANES + p] = p < rows ? x[(first + p) * n + c] : 0;
        long i = 0;
        for (; i + ROWS <= m; i += ROWS) {
            REAL sums[ROWS][LANES] = {{0}};
            for (long c = 0; c < n; c++)
#pragma GCC unroll 8
                for (long k = 0; k < ROWS; k++) {
                    const REAL entry = w[(i + k) * n + c];
#pragma omp simd
                    for (long p = 0; p < LANES; p++) sums[k][p] += entry * panel[c * LANES + p];
                }
            for (long p = 0; p < rows; p++)
                for (long k = 0; k < ROWS; k++) y[(first + p) * m + i + k] = sums[k][p];
        }
        for (; i < m; i++) {
            REAL sums[LANES] = {0};
            for (long c = 0; c < n; c++)
#pragma omp simd
                for (long p = 0; p < LANES; p++) sums[p] += w[i * n + c] * panel[c * LANES + p];
            for (long p = 0; p < rows; p++) y[(first + p) * m + i] = sums[p];
        }
    }
}

/* y[p] += sum_i a[p][i] w[i] for rows p, a constant, and the columns of WIDE registers. */
static inline __attribute__((always_inline)) void combine_some(
    const int rows, const REAL *restrict w, long m, long n, const REAL *restrict a,
    REAL *restrict y) {
    Vector total[4][WIDE];
#pragma GCC unroll 4
    for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
        for (int k = 0; k < WIDE; k++) total[p][k] = ((Vector *)(y + p * n))[k];
    for (long i = 0; i < m; i++) {
        const Vector *row = (const Vector *)(w + i * n);
        Vector entries[WIDE];
#pragma GCC unroll 4
        for (int k = 0; k < WIDE; k++) entries[k] = row[k];
#pragma GCC unroll 4
        for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
            for (int k = 0; k < WIDE; k++) total[p][k] += a[p * m + i] * entries[k];
    }
#pragma GCC unroll 4
    for (int p = 0; p < rows; p++)
#pragma GCC unroll 4
        for (int k = 0; k < WIDE; k++) ((Vector *)(y + p * n))[k] = total[p][k];
}

/* y[p] += sum_i a[p][i] w[i] for q rows a of length m: q rows of length n. */
static void combine(const REAL *restrict w, long m, long n, const REAL *restrict a, long q,
                    REAL *restrict y) {
    const long width = WIDE * VECTOR / sizeof(REAL), whole = n - n % width;
    for (long p = 0; p < q; p += 4, a += 4 * m, y += 4 * n) {
        const long rows = q - p < 4 ? q - p : 4;
        for (long c = 0; c < whole; c += width)
            if (rows == 4)
                combine_some(4, w + c, m, n, a, y + c);
            else
                for (long k = 0; k < rows; k++)
                    combine_some(1, w + c, m, n, a + k * m, y + k * n + c);
        for (long i = 0; whole < n && i < m; i++)
            for (long k = 0; k < rows; k++)
#pragma omp simd
                for (long c = whole; c < n; c++) y[k * n + c] += a[k * m + i] * w[i * n + c];
    }
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

/* Scales a row to unit length; one of length zero stays. */
static REAL normalize(REAL *restrict row, long n) {
    const REAL norm = SQRT(dot(row, row, n));
    if (norm > 0)
#pragma omp simd
        for (long c = 0; c < n; c++) row[c] /= norm;
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
            dots(basis, r, rest + q * n, n, shares + q * r);
            for (long p = 0; p < r; p++) shares[q * r + p] = -shares[q * r + p];
            if (!(before > 0)) kept[r + q] = 0;
        }
        combine(basis, r, n, shares, others, rest);
        for (long q = 0; q < others; q++) {
            const REAL left = normalize(rest + q * n, n);
            if (!(left > 16 * EPSILON)) kept[r + q] = 0;
        }
        for (long q = 0; q < others; q++) {
            dots(rest, q + 1, rest + q * n, n, shares);
            for (long p = 0; p <= q; p++) factor[q * others + p] = shares[p];
        }
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
    double sigma = 0;
    for (long i = 0; i < m; i++) sigma += (double)u[i] * dot(w + i * n, v, n);
    return sigma;
}

/* Each step turns the block by a matrix that is orthogonal but for rounding, which would add up: takes
 * what has done so away again. */
static void straighten(REAL *restrict block, long r, long n) {
    for (long q = 0; q < r; q++) {
        REAL shares[MAX_BASIS];
        dots(block, q, block + q * n, n, shares);
        for (long p = 0; p < q; p++)
#pragma omp simd
            for (long c = 0; c < n; c++) block[q * n + c] -= shares[p] * block[p * n + c];
        normalize(block + q * n, n);
    }
}

/* scratch holds 3r (2n + 2m) + LANES · n numbers. */
static void track(const REAL *restrict w, long m, long n, long r, REAL *restrict u,
                  REAL *restrict block, REAL *restrict direction, REAL *restrict scratch,
                  long n_power_iterations, double rtol, long max_steps,
                  double *sigma) {
    const long size = 3 * r;
    REAL *basis = scratch, *fresh = basis + size * n, *image = fresh + size * n,
         *turned = image + size * m, *panel = turned + size * m;
    REAL shares[MAX_BASIS * MAX_BASIS];
    double gram[MAX_BASIS * MAX_BASIS], ritz[MAX_BASIS * MAX_BASIS], squares[MAX_BASIS];
    double before[MAX_BASIS];
    int kept[MAX_BASIS], grows = 1;
    straighten(block, r, n);
    images(w, m, n, block, r, image, panel);
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
        images(w, m, n, basis + r * n, size - r, image + r * m, panel);
        for (long c = r * m; c < size * m; c++) image[c] /= scale;
        for (long p = 0; p < size; p++) {
            dots(image, p + 1, image + p * m, m, shares);
            for (long q = 0; q <= p; q++) gram[p * size + q] = gram[q * size + p] = shares[q];
        }
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

/* g += slope · ⟨g, w⟩ · u vᵀ. */
void through_sigma(REAL *restrict g, const REAL *restrict w, long m, long n, const REAL *restrict u,
                   const REAL *restrict v, double slope, int threads) {
    double inner = 0;
    for (long i = 0; i < m; i++) inner += dot(g + i * n, w + i * n, n);
#pragma omp parallel for num_threads(threads) if (threads > 1 && m * n > WORTH_A_THREAD)
    for (long i = 0; i < m; i++) {
        const REAL share = (REAL)(slope * inner * u[i]);
        REAL *row = g + i * n;
#pragma omp simd
        for (long c = 0; c < n; c++) row[c] += share * v[c];
    }
}
