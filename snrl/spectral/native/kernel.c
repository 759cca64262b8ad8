#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BASIS 48
/* Of a register tile: as many sums as the sixteen registers of AVX2 hold. */
#define LANES 8
#define ROWS 8
/* Columns summed at once, and entries below which a second thread takes longer to wake. */
#define STRIP 64
#define WORTH_A_THREAD 16384

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

/* The products of BLAS, as Fortran calls them; torch has them. */
typedef void Product32(const char *, const char *, const int *, const int *, const int *,
                       const float *, const float *, const int *, const float *, const int *,
                       const float *, float *, const int *);
typedef void Product64(const char *, const char *, const int *, const int *, const int *,
                       const double *, const double *, const int *, const double *, const int *,
                       const double *, double *, const int *);
static Product32 *sgemm;
static Product64 *dgemm;

/* Sets the number of threads that BLAS uses when called by this thread, and gives what it was; NULL
 * where BLAS by itself uses one thread in a parallel region. */
typedef int OwnThreads(int);
static OwnThreads *own_threads;

void use_products(Product32 *single, Product64 *twice, OwnThreads *set) {
    sgemm = single, dgemm = twice, own_threads = set;
}

/* Of the rows a of a matrix: z = (a - mean) · rate with rate = 1 / sqrt(mean of (a - mean)² + eps),
 * which are kept, and then gamma z + beta; without the mean where it is not centred. gamma and beta
 * may be NULL; ggamma and gbeta, which take their gradients, with them. */
typedef struct {
    const void *gamma, *beta;
    void *z, *rates, *ggamma, *gbeta;
    int64_t centred;
    double eps;
} Norm;

/* y = max(0, norm(a)) with a = scale · x wᵀ + b, without the rectifier where relu is 0: w is (m, n),
 * y (batch, m). b and norm may be NULL. gy, ga, gw and gb take gradients; without a norm ga is gy,
 * and gb may be NULL. slope is the derivative of the scale with respect to uᵀ w v. */
typedef struct {
    const void *w, *b;
    void *y, *gy, *ga, *gw, *gb;
    const void *u, *v;
    const Norm *norm;
    int64_t m, n, relu;
    double scale, slope;
} Layer;

/* x is (batch, n) of the first layer, its rows stride apart; gx takes its gradient, from from_column
 * on, rows behind each other. */
typedef struct {
    const Layer *layers;
    int64_t depth;
    const void *x;
    void *gx;
    int64_t stride, from_column;
} Network;

typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t decoupled, maximize;
} AdamOptions;

#define REAL float
#define NAME(function) function##_float32
#define ABS fabsf
#define SQRT sqrtf
#define EPSILON FLT_EPSILON
#define GEMM sgemm
#define EXP expf
#define LOG logf
#define TANH tanhf
#include "kernel.h"
#include "layer.h"
#include "norm.h"
#include "network.h"
#include "actor_critic.h"
#undef REAL
#undef NAME
#undef ABS
#undef SQRT
#undef EPSILON
#undef GEMM
#undef EXP
#undef LOG
#undef TANH
#define REAL double
#define NAME(function) function##_float64
#define ABS fabs
#define SQRT sqrt
#define EPSILON DBL_EPSILON
#define GEMM dgemm
#define EXP exp
#define LOG log
#define TANH tanh
#include "kernel.h"
#include "layer.h"
#include "norm.h"
#include "network.h"
#include "actor_critic.h"

/* table: for each matrix the addresses of W (m, n), u (m), block (r, n) and direction (r, n), all
 * contiguous, then m, n and r, and where to write the norm that was found: nothing is written where
 * a matrix is zero or not finite. Returns 0, or 1 if there is no memory for the scratch space. */
int refresh(const int64_t *table, long count, int is_double, long n_power_iterations, double rtol,
            long max_steps, int threads) {
    size_t most = 0;
    for (long k = 0; k < count; k++) {
        const size_t m = table[8 * k + 4], n = table[8 * k + 5], r = table[8 * k + 6];
        const size_t needed = 6 * r * (n + m) + LANES * n;
        most = needed > most ? needed : most;
    }
    most *= is_double ? sizeof(double) : sizeof(float);
    int failed = 0;
#pragma omp parallel num_threads(threads) if (threads > 1 && count > 1)
    {
        void *scratch = malloc(most);
#pragma omp for schedule(dynamic)
        for (long k = 0; k < count; k++) {
            const int64_t *row = table + 8 * k;
            if (!scratch)
#pragma omp atomic write
                failed = 1;
            else if (is_double)
                track_float64((const double *)row[0], row[4], row[5], row[6], (double *)row[1],
                              (double *)row[2], (double *)row[3], scratch, n_power_iterations,
                              rtol, max_steps, (double *)row[7]);
            else
                track_float32((const float *)row[0], row[4], row[5], row[6], (float *)row[1],
                              (float *)row[2], (float *)row[3], scratch, n_power_iterations, rtol,
                              max_steps, (double *)row[7]);
        }
        free(scratch);
    }
    return failed;
}

double sigma(int is_double, const void *w, long m, long n, const void *u, const void *v) {
    return is_double ? sigma_float64(w, m, n, u, v) : sigma_float32(w, m, n, u, v);
}

void through_sigma(int is_double, void *g, const void *w, long m, long n, const void *u,
                   const void *v, double slope, int threads) {
    if (is_double)
        through_sigma_float64(g, w, m, n, u, v, slope, threads);
    else
        through_sigma_float32(g, w, m, n, u, v, slope, threads);
}

void finish(int is_double, void *y, const void *b, long rows, long cols, int relu, int threads) {
    if (is_double)
        finish_float64(y, b, rows, cols, relu, threads);
    else
        finish_float32(y, b, rows, cols, relu, threads);
}

void through_layer(int is_double, const void *g, const void *y, void *out, void *sums, long rows,
                   long cols, int threads) {
    if (is_double)
        through_layer_float64(g, y, out, sums, rows, cols, threads);
    else
        through_layer_float32(g, y, out, sums, rows, cols, threads);
}

/* How a count of tasks is cut so that there is a piece for each thread: piece p of pieces covers
 * PART(p) to PART(p + 1) of the whole. */
#define PIECES(count, threads) (((threads) + (count) - 1) / (count))
#define PART(p, pieces, whole) ((whole) * (p) / (pieces))

void forward(const Network *networks, long count, long batch, int is_double, int threads) {
    const long pieces = PIECES(count, threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const int before = own_threads ? own_threads(1) : 0;
#pragma omp for schedule(dynamic)
        for (long t = 0; t < count * pieces; t++) {
            const long k = t / pieces, p = t % pieces;
            const long first = PART(p, pieces, batch), last = PART(p + 1, pieces, batch);
            if (is_double)
                forward_float64(networks + k, first, last);
            else
                forward_float32(networks + k, first, last);
        }
        if (own_threads) own_threads(before);
    }
}

/* Reads the gradient of what each network gave in the gy of its last layer, and overwrites all gy and
 * ga. */
void backward(const Network *networks, long count, long batch, int is_double, int threads,
              int to_weights, int to_input) {
    const long pieces = PIECES(count, threads), depth = networks->depth;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const int before = own_threads ? own_threads(1) : 0;
#pragma omp for schedule(dynamic)
        for (long t = 0; t < count * pieces; t++) {
            const long k = t / pieces, p = t % pieces;
            const long first = PART(p, pieces, batch), last = PART(p + 1, pieces, batch);
            if (is_double)
                backward_float64(networks + k, first, last, to_input);
            else
                backward_float32(networks + k, first, last, to_input);
        }
        if (to_weights) {
#pragma omp for schedule(dynamic)
            for (long t = 0; t < count * depth * pieces; t++) {
                const long k = t / pieces / depth, i = t / pieces % depth, p = t % pieces;
                const long m = networks[k].layers[i].m;
                const long first = PART(p, pieces, m), last = PART(p + 1, pieces, m);
                if (is_double)
                    to_weights_float64(networks + k, i, batch, first, last);
                else
                    to_weights_float32(networks + k, i, batch, first, last);
            }
#pragma omp for schedule(dynamic)
            for (long t = 0; t < count * depth; t++) {
                const Layer *layer = networks[t / depth].layers + t % depth;
                if (layer->slope != 0)
                    through_sigma(is_double, layer->gw, layer->w, layer->m, layer->n, layer->u,
                                  layer->v, layer->slope / layer->scale, 1);
            }
        }
        if (own_threads) own_threads(before);
    }
}

double act(int is_double, const void *y, void *noise, void *actions, long stride, void *log_prob,
           long batch, long dim) {
    return is_double ? act_float64(y, noise, actions, stride, log_prob, batch, dim)
                     : act_float32(y, noise, actions, stride, log_prob, batch, dim);
}

void act_backward(int is_double, const void *y, const void *spread, const void *actions,
                  long stride, const void *to_actions, long count, double to_log_prob, void *gy,
                  long batch, long dim) {
    if (is_double)
        act_backward_float64(y, spread, actions, stride, to_actions, count, to_log_prob, gy, batch,
                             dim);
    else
        act_backward_float32(y, spread, actions, stride, to_actions, count, to_log_prob, gy, batch,
                             dim);
}

double temporal_differences(int is_double, const void *q, const void *target, long count,
                            const void *log_prob, double ent_coef, const void *rewards,
                            const void *discounts, double share, void *errors, long batch) {
    return is_double ? temporal_differences_float64(q, target, count, log_prob, ent_coef, rewards,
                                                    discounts, share, errors, batch)
                     : temporal_differences_float32(q, target, count, log_prob, ent_coef, rewards,
                                                    discounts, share, errors, batch);
}

double least(int is_double, const void *q, long count, double share, void *grads, long batch) {
    return is_double ? least_float64(q, count, share, grads, batch)
                     : least_float32(q, count, share, grads, batch);
}

/* table: for each parameter its address, those of its gradient, its two moments and its count of steps
 * (a float, which is raised by one), and its number of entries. */
void adam(const int64_t *table, long count, const AdamOptions *options, int is_double,
          int threads) {
    for (long k = 0; k < count; k++) ++*(float *)table[6 * k + 4];
#pragma omp parallel for num_threads(threads) schedule(dynamic) collapse(2) if (threads > 1)
    for (long k = 0; k < count; k++)
        for (long p = 0; p < threads; p++) {
            const int64_t *row = table + 6 * k;
            const long first = PART(p, threads, row[5]), n = PART(p + 1, threads, row[5]) - first;
            const double steps = *(float *)row[4];
            if (is_double)
                adam_float64((double *)row[0] + first, (double *)row[1] + first,
                             (double *)row[2] + first, (double *)row[3] + first, n, options, steps);
            else
                adam_float32((float *)row[0] + first, (float *)row[1] + first,
                             (float *)row[2] + first, (float *)row[3] + first, n, options, steps);
        }
}

/* table: for each target parameter its address, that of where it moves, and its number of entries. */
void average(const int64_t *table, long count, double tau, int is_double, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (long k = 0; k < count; k++) {
        const int64_t *row = table + 3 * k;
        if (is_double)
            average_float64((double *)row[0], (const double *)row[1], row[2], tau);
        else
            average_float32((float *)row[0], (const float *)row[1], row[2], tau);
    }
}

/* Transitions of a replay buffer, by their rows. table: for each array of observations or actions its
 * address, whether it is of doubles, its width, and where its columns begin in a matrix whose rows are
 * stride wide. rewards, dones and timeouts are of floats; a discount is gamma · (1 - done), where a
 * timeout is not done, computed in floats. */
void gather(const int64_t *table, long count, long stride, const float *rewards, const float *dones,
            const float *timeouts, double gamma, void *out_rewards, void *out_discounts,
            const int64_t *rows, long n, int is_double) {
    for (long k = 0; k < count; k++) {
        const int64_t *row = table + 4 * k;
        if (is_double)
            gather_float64((void *)row[0], row[1], rows, n, row[2], (double *)row[3], stride);
        else
            gather_float32((void *)row[0], row[1], rows, n, row[2], (float *)row[3], stride);
    }
    for (long i = 0; i < n; i++) {
        const float done = dones[rows[i]] * (1 - timeouts[rows[i]]);
        const float reward = rewards[rows[i]], discount = (1 - done) * (float)gamma;
        if (is_double)
            ((double *)out_rewards)[i] = reward, ((double *)out_discounts)[i] = discount;
        else
            ((float *)out_rewards)[i] = reward, ((float *)out_discounts)[i] = discount;
    }
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
