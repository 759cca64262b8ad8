/* What a linear layer needs beside its products; included once for each REAL.
 *
 * Work is split over threads by rows or by columns, so that results do not depend on their number.
 */

/* y = y + b, and then max(0, y) if there is a rectifier; b may be NULL. */
static void NAME(finish)(REAL *restrict y, const REAL *restrict b, long rows, long cols, int relu,
                         int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows * cols > WORTH_A_THREAD)
    for (long i = 0; i < rows; i++) {
        REAL *restrict row = y + i * cols;
        if (b && relu)
#pragma omp simd
            for (long c = 0; c < cols; c++) {
                const REAL sum = row[c] + b[c];
                row[c] = sum < 0 ? 0 : sum; /* a NaN stays one */
            }
        else if (b)
#pragma omp simd
            for (long c = 0; c < cols; c++) row[c] += b[c];
        else if (relu)
#pragma omp simd
            for (long c = 0; c < cols; c++) row[c] = row[c] < 0 ? 0 : row[c];
    }
}

/* out = g but 0 where y <= 0 (everywhere g where y is NULL), and the sums of its columns to sums;
 * out may be g, or NULL; sums may be NULL. */
static void NAME(through_layer)(const REAL *g, const REAL *y, REAL *out, REAL *sums, long rows,
                                long cols, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1 && rows * cols > WORTH_A_THREAD)
    for (long first = 0; first < cols; first += STRIP) {
        const long width = cols - first < STRIP ? cols - first : STRIP;
        REAL total[STRIP] = {0};
        for (long i = 0; i < rows; i++) {
            const long at = i * cols + first;
#pragma omp simd
            for (long c = 0; c < width; c++) {
                const REAL passed = y && y[at + c] <= 0 ? 0 : g[at + c];
                if (out) out[at + c] = passed;
                total[c] += passed;
            }
        }
        if (sums) memcpy(sums + first, total, sizeof(REAL) * width);
    }
}

/* g += slope · ⟨g, w⟩ · u vᵀ. */
static void NAME(through_sigma)(REAL *restrict g, const REAL *restrict w, long m, long n,
                                const REAL *restrict u, const REAL *restrict v, double slope,
                                int threads) {
    double inner = 0;
    for (long i = 0; i < m; i++) inner += NAME(dot)(g + i * n, w + i * n, n);
#pragma omp parallel for num_threads(threads) if (threads > 1 && m * n > WORTH_A_THREAD)
    for (long i = 0; i < m; i++) {
        const REAL share = (REAL)(slope * inner * u[i]);
        REAL *row = g + i * n;
#pragma omp simd
        for (long c = 0; c < n; c++) row[c] += share * v[c];
    }
}
