#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BASIS 48
/* Of a register tile: as many sums as the sixteen registers of AVX2 hold. */
#define LANES 8
#define ROWS 8

/* Eigenvalues of a symmetric matrix, largest first, and eigenvectors as rows, by cyclic Jacobi
 * rotations (Golub & Van Loan, Matrix Computations, 8.5) down to off-diagonal entries of rtol times
 * the largest entry of the diagonal. a is overwritten. */
static void symmetric_eigen(double *restrict a, long size, double *restrict values,
                            double *restrict vectors, double rtol) {
    for (long p = 0; p < size; p++)
        for (long q = 0; q < size; q++) vectors[p * size + q] = p == q;
    for (int sweep = 0; sweep < 30; sweep++) {
        double largest = 0, off = 0;
        for (long p = 0; p < size; p++) {
            if (fabs(a[p * size + p]) > largest) largest = fabs(a[p * size + p]);
            for (long q = 0; q < p; q++)
                if (fabs(a[p * size + q]) > off) off = fabs(a[p * size + q]);
        }
        if (!(off > rtol * largest)) break;
        for (long p = 0; p < size; p++)
            for (long q = p + 1; q < size; q++) {
                const double both = a[p * size + q];
                if (fabs(both) <= 0.1 * rtol * largest) continue;
                const double tau = (a[q * size + q] - a[p * size + p]) / (2 * both);
                const double t = (tau >= 0 ? 1 : -1) / (fabs(tau) + sqrt(1 + tau * tau));
                const double c = 1 / sqrt(1 + t * t), s = c * t;
                const double app = a[p * size + p] - t * both, aqq = a[q * size + q] + t * both;
                double *restrict ap = a + p * size, *restrict aq = a + q * size;
                double *restrict vp = vectors + p * size, *restrict vq = vectors + q * size;
#pragma omp simd
                for (long k = 0; k < size; k++) {
                    const double x = ap[k], y = aq[k], z = vp[k], w = vq[k];
                    ap[k] = c * x - s * y, aq[k] = s * x + c * y;
                    vp[k] = c * z - s * w, vq[k] = s * z + c * w;
                }
                for (long k = 0; k < size; k++) a[k * size + p] = ap[k], a[k * size + q] = aq[k];
                ap[p] = app, aq[q] = aqq, ap[q] = aq[p] = 0;
            }
    }
    for (long p = 0; p < size; p++) values[p] = a[p * size + p];
    for (long p = 0; p < size; p++) {
        long best = p;
        for (long q = p + 1; q < size; q++)
            if (values[q] > values[best]) best = q;
        if (best == p) continue;
        const double value = values[p];
        values[p] = values[best], values[best] = value;
        for (long k = 0; k < size; k++) {
            const double x = vectors[p * size + k];
            vectors[p * size + k] = vectors[best * size + k], vectors[best * size + k] = x;
        }
    }
}

#define REAL float
#define NAME(function) function##_float32
#define ABS fabsf
#define SQRT sqrtf
#define EPSILON FLT_EPSILON
#include "kernel.h"
#undef REAL
#undef NAME
#undef ABS
#undef SQRT
#undef EPSILON
#define REAL double
#define NAME(function) function##_float64
#define ABS fabs
#define SQRT sqrt
#define EPSILON DBL_EPSILON
#include "kernel.h"

/* table: for each matrix the addresses of W (m, n), u (m), block (r, n) and direction (r, n), all
 * contiguous, then m, n and r. Returns 0, or 1 if there is no memory for the scratch space. */
int refresh(const int64_t *table, long count, int is_double, long n_power_iterations, double rtol,
            long max_steps) {
    size_t most = 0;
    for (long k = 0; k < count; k++) {
        const size_t m = table[7 * k + 4], n = table[7 * k + 5], r = table[7 * k + 6];
        const size_t needed = 6 * r * (n + m) + LANES * n;
        most = needed > most ? needed : most;
    }
    void *scratch = malloc(most * (is_double ? sizeof(double) : sizeof(float)));
    if (!scratch) return 1;
    for (long k = 0; k < count; k++) {
        const int64_t *row = table + 7 * k;
        if (is_double)
            track_float64((const double *)row[0], row[4], row[5], row[6], (double *)row[1],
                          (double *)row[2], (double *)row[3], scratch, n_power_iterations, rtol,
                          max_steps);
        else
            track_float32((const float *)row[0], row[4], row[5], row[6], (float *)row[1],
                          (float *)row[2], (float *)row[3], scratch, n_power_iterations, rtol,
                          max_steps);
    }
    free(scratch);
    return 0;
}

double sigma(int is_double, const void *w, long m, long n, const void *u, const void *v,
             void *copies) {
    return is_double ? sigma_float64(w, m, n, u, v, copies) : sigma_float32(w, m, n, u, v, copies);
}

void through_sigma(int is_double, void *g, const void *w, long m, long n, const void *vectors,
                   double slope) {
    if (is_double)
        through_sigma_float64(g, w, m, n, vectors, slope);
    else
        through_sigma_float32(g, w, m, n, vectors, slope);
}

/* A number that all bytes of a matrix decide: equal for equal ones, and else but for one case in
 * 2^32 not. Lanes, so that no multiplication waits for the one before it. */
uint64_t fingerprint(const uint32_t *words, long count) {
    uint32_t lanes[64];
    uint64_t all = 0;
    for (long lane = 0; lane < 64; lane++) lanes[lane] = (uint32_t)lane;
    long c = 0;
    for (; c + 64 <= count; c += 64)
#pragma omp simd
        for (long lane = 0; lane < 64; lane++)
            lanes[lane] = (lanes[lane] ^ words[c + lane]) * 0x9E3779B1u;
    for (; c < count; c++) lanes[c & 63] = (lanes[c & 63] ^ words[c]) * 0x9E3779B1u;
    for (long lane = 0; lane < 64; lane++) all = (all ^ lanes[lane]) * 0x9E3779B97F4A7C15u;
    return all;
}
