/* What may stand between a linear layer and its rectifier: LayerNorm (Ba et al. 2016) and RMSNorm
 * (Zhang & Sennrich 2019); included once for each REAL. */

/* Rows first to last of the batch, of which y is the first: normalised, and rectified if relu. */
static void NAME(norm)(const Norm *norm, REAL *y, long first, long last, long m, int relu) {
    const REAL *gamma = norm->gamma;
    for (long i = first; i < last; i++) {
        REAL *row = y + (i - first) * m, *z = (REAL *)norm->z + i * m, sum = 0, squares = 0;
        if (norm->centred)
#pragma omp simd reduction(+ : sum)
            for (long c = 0; c < m; c++) sum += row[c];
        const REAL mean = sum / m;
#pragma omp simd reduction(+ : squares)
        for (long c = 0; c < m; c++) squares += (row[c] - mean) * (row[c] - mean);
        const REAL rate = 1 / SQRT(squares / m + (REAL)norm->eps);
        ((REAL *)norm->rates)[i] = rate;
#pragma omp simd
        for (long c = 0; c < m; c++) {
            z[c] = (row[c] - mean) * rate;
            row[c] = gamma ? z[c] * gamma[c] : z[c];
        }
    }
    NAME(finish)(y, norm->beta, last - first, m, relu, 1);
}

/* From gradients gy of what the norm gave to those of what it was given. */
static void NAME(through_norm)(const Norm *norm, const REAL *restrict gy, REAL *restrict ga,
                               long first, long last, long m) {
    const REAL *gamma = norm->gamma;
    for (long i = first; i < last; i++, gy += m, ga += m) {
        const REAL *z = (const REAL *)norm->z + i * m, rate = ((const REAL *)norm->rates)[i];
        REAL sum = 0, along = 0;
#pragma omp simd reduction(+ : sum, along)
        for (long c = 0; c < m; c++) {
            const REAL g = gamma ? gy[c] * gamma[c] : gy[c];
            ga[c] = g;
            sum += g;
            along += g * z[c];
        }
        /* ∂z/∂a = rate · (1 - 1/m - z zᵀ/m) */
        const REAL mean = norm->centred ? sum / m : 0, share = along / m;
#pragma omp simd
        for (long c = 0; c < m; c++) ga[c] = rate * (ga[c] - mean - share * z[c]);
    }
}
