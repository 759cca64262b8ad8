/* What may stand between a linear layer and its rectifier: LayerNorm (Ba et al. 2016) and RMSNorm
 * (Zhang & Sennrich 2019), on a panel. */

/* sums[r] = sum of the features of row r, of each times that of z if there is one; in groups, so that
 * rounding does not add up over all of them. */
static void sum_features(const REAL *restrict x, const REAL *restrict z, long m,
                         REAL *restrict sums) {
    for (long r = 0; r < PANEL; r++) sums[r] = 0;
    for (long first = 0; first < m; first += 16) {
        REAL part[PANEL] = {0};
        for (long i = first; i < m && i < first + 16; i++)
#pragma omp simd
            for (long r = 0; r < PANEL; r++)
                part[r] += z ? x[i * PANEL + r] * z[i * PANEL + r] : x[i * PANEL + r];
        for (long r = 0; r < PANEL; r++) sums[r] += part[r];
    }
}

/* Panel p, of which y is the first entry: normalised, and shifted and scaled. z may be y. */
static void apply_norm(const Norm *norm, REAL *y, long p, long m) {
    const REAL *gamma = norm->gamma, *beta = norm->beta;
    REAL *z = (REAL *)norm->z + p * m * PANEL, *rates = (REAL *)norm->rates + p * PANEL;
    REAL mean[PANEL] = {0}, squares[PANEL];
    if (norm->centred) sum_features(y, NULL, m, mean);
    for (long r = 0; r < PANEL; r++) mean[r] /= m;
    for (long i = 0; i < m; i++)
#pragma omp simd
        for (long r = 0; r < PANEL; r++) z[i * PANEL + r] = y[i * PANEL + r] - mean[r];
    sum_features(z, z, m, squares);
    for (long r = 0; r < PANEL; r++) rates[r] = 1 / SQRT(squares[r] / m + (REAL)norm->eps);
    for (long i = 0; i < m; i++) {
        const REAL share = gamma ? gamma[i] : 1, shift = beta ? beta[i] : 0;
#pragma omp simd
        for (long r = 0; r < PANEL; r++) {
            z[i * PANEL + r] *= rates[r];
            y[i * PANEL + r] = z[i * PANEL + r] * share + shift;
        }
    }
}

/* From gradients gy of what the norm gave for panel p to those of what it was given. */
static void through_norm(const Norm *norm, const REAL *restrict gy, REAL *restrict ga, long p,
                         long m) {
    const REAL *gamma = norm->gamma, *z = (const REAL *)norm->z + p * m * PANEL;
    const REAL *rates = (const REAL *)norm->rates + p * PANEL;
    REAL mean[PANEL] = {0}, along[PANEL];
    for (long i = 0; i < m; i++) {
        const REAL share = gamma ? gamma[i] : 1;
#pragma omp simd
        for (long r = 0; r < PANEL; r++) ga[i * PANEL + r] = gy[i * PANEL + r] * share;
    }
    if (norm->centred) sum_features(ga, NULL, m, mean);
    sum_features(ga, z, m, along);
    for (long r = 0; r < PANEL; r++) mean[r] /= m, along[r] /= m;
    /* ∂z/∂a = rate · (1 - 1/m - z zᵀ/m) */
    for (long i = 0; i < m; i++)
#pragma omp simd
        for (long r = 0; r < PANEL; r++)
            ga[i * PANEL + r] =
                rates[r] * (ga[i * PANEL + r] - mean[r] - along[r] * z[i * PANEL + r]);
}
