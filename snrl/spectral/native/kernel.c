#define _GNU_SOURCE /* for syscall() */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && !defined(DOUBLE)
#define HAS_BFLOAT16
#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__)
#define HAS_AMX
#endif
#endif

#ifdef _OPENMP
#include <omp.h>
#define THREAD ((long)omp_get_thread_num())
#define THREADS ((long)omp_get_num_threads())
#else
#define THREAD 0L
#define THREADS 1L
#endif

/* What is computed in: compiled once for floats, and with -DDOUBLE for doubles. */
#ifdef DOUBLE
#define REAL double
#define ABS fabs
#define SQRT sqrt
#define EPSILON DBL_EPSILON
#define EXP exp
#define LOG log
#define TANH tanh
#else
#define REAL float
#define ABS fabsf
#define SQRT sqrtf
#define EPSILON FLT_EPSILON
#define EXP expf
#define LOG logf
#define TANH tanhf
#endif

#define MAX_BASIS 48
/* Bytes of a vector register; rows of a product's tile, as many sums of two registers as there are
 * registers for; and the registers of a tile of four rows, or the rows of one of four vectors. */
#if defined(__AVX512F__)
#define VECTOR 64
#define TILE 12
#define WIDE 4
#elif defined(__AVX__)
#define VECTOR 32
#define TILE 6
#define WIDE 2
#else
#define VECTOR 16
#define TILE 6
#define WIDE 2
#endif
/* Features of a panel that are multiplied at a time: they stay in the fastest cache. */
#define DEPTH 128
#define LANES ((long)(VECTOR / sizeof(REAL)))
#define PANEL (2 * LANES)
/* Numbers in what memory gives at a time. */
#define LINE ((long)(64 / sizeof(REAL)))
/* Rows of a weight that are taken together: threads do not share them. */
#define SHARE 16
/* Of the squares that a matrix is turned by; divides PANEL. */
#define SIDE 4
/* Rows of a batch up to which each is treated by itself, and panels that are packed together. */
#define FEW 2
#define GROUP 64
/* Rows of a weight up to which a gradient takes less time than what it reads takes to be turned. */
#define LOW 2
/* How a count is cut: piece p of pieces covers PART(p) to PART(p + 1) of the whole. */
#define PART(p, pieces, whole) ((whole) * (p) / (pieces))
/* Entries below which a second thread takes longer to wake. */
#define WORTH_A_THREAD 16384

/* Eigenvalues of a symmetric matrix, largest first, and eigenvectors as rows: a tridiagonal matrix by
 * Householder reflections, then QL steps with implicit shifts (Golub & Van Loan, Matrix Computations,
 * 8.3). Off-diagonal entries count as zero below rtol times the largest of the tridiagonal matrix. Of
 * each vector the largest entry is positive. a is overwritten. */
static void symmetric_eigen(double *restrict a, long size, double *restrict values,
                            double *restrict vectors, double rtol) {
    double below[MAX_BASIS] = {0}, v[MAX_BASIS], w[MAX_BASIS], greatest = 0;
    for (long k = 0; k < size * size; k++)
        if (fabs(a[k]) > greatest) greatest = fabs(a[k]);
    for (long p = 0; p < size; p++)
        for (long q = 0; q < size; q++) vectors[p * size + q] = p == q;
    for (long k = 0; k + 2 < size; k++) {
        /* A = H A H and the rows of vectors H, with H = 1 - 2 v vᵀ that leaves one entry below. */
        double norm = 0;
        for (long i = k + 1; i < size; i++) norm += a[k * size + i] * a[k * size + i];
        norm = sqrt(norm);
        /* Nothing, but its square would lose its digits, and v its length. */
        if (!(norm > 1e-30 * greatest)) continue;
        const double head = a[k * size + k + 1], kept = head > 0 ? -norm : norm;
        const double length = sqrt(2 * norm * (norm + fabs(head)));
        below[k] = kept;
        for (long i = 0; i < size; i++)
            v[i] = i <= k ? 0 : (a[k * size + i] - (i == k + 1 ? kept : 0)) / length;
        double inner = 0;
        for (long i = k + 1; i < size; i++) {
            double sum = 0;
            for (long j = k + 1; j < size; j++) sum += a[i * size + j] * v[j];
            w[i] = 2 * sum;
            inner += v[i] * w[i];
        }
        for (long i = k + 1; i < size; i++) w[i] -= inner * v[i];
        for (long i = k + 1; i < size; i++)
#pragma omp simd
            for (long j = k + 1; j < size; j++) a[i * size + j] -= v[i] * w[j] + w[i] * v[j];
        for (long j = 0; j < size; j++) w[j] = 0;
        for (long i = k + 1; i < size; i++)
#pragma omp simd
            for (long j = 0; j < size; j++) w[j] += v[i] * vectors[i * size + j];
        for (long i = k + 1; i < size; i++)
#pragma omp simd
            for (long j = 0; j < size; j++) vectors[i * size + j] -= 2 * v[i] * w[j];
    }
    if (size > 1) below[size - 2] = a[(size - 2) * size + size - 1];
    double largest = 0;
    for (long p = 0; p < size; p++) {
        values[p] = a[p * size + p];
        if (fabs(values[p]) > largest) largest = fabs(values[p]);
        if (fabs(below[p]) > largest) largest = fabs(below[p]);
    }
    for (long first = 0; first < size; first++)
        for (int pass = 0; pass < 60; pass++) {
            long last = first;
            while (last + 1 < size && fabs(below[last]) > rtol * largest) last++;
            if (last == first) break;
            const double half = (values[first + 1] - values[first]) / (2 * below[first]);
            const double root = sqrt(half * half + 1);
            double g = values[last] - values[first] +
                       below[first] / (half + (half < 0 ? -root : root));
            double sine = 1, cosine = 1, shift = 0;
            int split = 0;
            for (long i = last - 1; i >= first; i--) {
                const double f = sine * below[i], b = cosine * below[i], r = sqrt(f * f + g * g);
                below[i + 1] = r;
                if (!(r > 0)) {
                    /* The matrix has come apart here. */
                    values[i + 1] -= shift;
                    split = 1;
                    break;
                }
                sine = f / r, cosine = g / r;
                const double d = values[i + 1] - shift;
                const double t = (values[i] - d) * sine + 2 * cosine * b;
                shift = sine * t;
                values[i + 1] = d + shift;
                g = cosine * t - b;
                double *restrict x = vectors + i * size, *restrict y = x + size;
#pragma omp simd
                for (long k = 0; k < size; k++) {
                    const double lower = y[k];
                    y[k] = sine * x[k] + cosine * lower;
                    x[k] = cosine * x[k] - sine * lower;
                }
            }
            if (!split) values[first] -= shift, below[first] = g;
            below[last] = 0;
        }
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
    for (long p = 0; p < size; p++) {
        double *row = vectors + p * size, top = 0;
        for (long k = 0; k < size; k++)
            if (fabs(row[k]) > fabs(top)) top = row[k];
        for (long k = 0; top < 0 && k < size; k++) row[k] = -row[k];
    }
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

/* y = max(0, norm(a)) with a = scale · w x + b, without the rectifier where relu is 0: w is (m, n). x, of
 * x_rows features of which the first n count, y, gy and ga are in panels; gy, ga, gw and gb take
 * gradients. b and norm may be NULL; without a norm ga is gy, and gb may be NULL. slope is the
 * derivative of the scale with respect to uᵀ w v; where it is not 0, overlap takes ⟨gw, w⟩ of each row.
 * With bfloat16, for floats, operands of products are rounded to it. */
typedef struct {
    const void *w, *b, *x;
    void *y, *gy, *ga, *gw, *gb;
    const void *u, *v;
    double *overlap;
    const Norm *norm;
    int64_t m, n, x_rows, relu, bfloat16;
    double scale, slope;
} Layer;

/* gx takes the gradient of the input, from from_column on. */
typedef struct {
    Layer *layers;
    void *gx;
    int64_t depth, from_column;
} Network;

typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t decoupled, maximize;
} AdamOptions;

/* A tape is a list of phases; each is done by all threads before the next begins, and the whole list
 * once for each gradient step. What changes from step to step it finds in slots: addresses, strides,
 * flags. A phase whose flag is a slot that holds 0 is left out. */
enum { ON_PANELS, ONCE, TO_WEIGHTS, THROUGH_SCALE, MOVE, REFRESH };
typedef struct {
    int64_t kind, flag;
    const void *arguments;
    int64_t count;
} Phase;

enum {
    LOAD, STORE, COPY, FORWARD, BACKWARD, SQUASH, UNSQUASH, TANH_OF, UNTANH, DIFFERENCES, LEAST, ALL,
    SUM, READ_TEMPERATURE, TO_TEMPERATURE, JOIN, SCALE, BACKWARD_SOME
};
typedef struct {
    int64_t kind;
    void *arguments;
} Operation;

/* Panels first to last of all those of a batch. */
typedef struct {
    long first, last, batch;
} Part;

/* Of the arguments of operations: slot is that of an address (for load and store that of a stride
 * follows), to_rows the number of features in a panel of to, total and parts have an entry for each
 * panel. */
typedef struct {
    int64_t slot, width;
    void *to;
    int64_t to_rows;
} Load;

typedef struct {
    const void *from;
    int64_t width;
    void *to;
    int64_t to_rows;
} Copy;

typedef struct {
    const Network *networks;
    int64_t count, to_input;
} Through;

typedef struct {
    const void *y;
    int64_t dim, slot;
    void *spread, *to;
    int64_t to_rows;
    void *log_prob;
    double *total;
} Squash;

typedef struct {
    const Squash *of;
    const Network *networks;
    int64_t count;
    void *gy;
    const double *ent_coef;
} Unsquash;

typedef struct {
    const void *y;
    int64_t y_rows, dim, slot;
    void *to;
    int64_t to_rows;
} Tanh;

typedef struct {
    const Tanh *of;
    const Network *networks;
    int64_t count;
    void *gy;
} Untanh;

typedef struct {
    const Network *networks, *targets;
    int64_t count, subset, slot;
    const void *log_prob;
    const double *ent_coef;
    double share, *total;
} Differences;

typedef struct {
    const Network *networks;
    int64_t count;
    double share, *total;
} Climb;

typedef struct {
    const double *parts;
    int64_t to;
} Sum;

/* The entropy coefficient: value, or where log is not NULL its exponential, and where the gradient of the
 * logarithm goes, or NULL; from is where the results have the sum of the log-probabilities. */
typedef struct {
    double value;
    const void *log;
    void *grad;
    double wanted;
    int64_t from;
} Temperature;

/* table: for each copy where to, where from, and how many numbers. */
typedef struct {
    const int64_t *table;
    int64_t count;
} Join;

/* f(sigma) = coef / sigma, or the lesser of this and 1 if capped, with or without a derivative. */
typedef struct {
    Layer *layer;
    const double *sigma;
    double coef;
    int64_t capped, detached;
} Scaled;

typedef struct {
    const Scaled *rows;
    int64_t count;
} Scale;

/* A parameter, its gradient, moments, count of steps, what is averaged towards it or NULL; of rows
 * that count together so many numbers. */
typedef struct {
    void *p, *g, *m, *v;
    float *steps;
    void *target;
    const AdamOptions *options;
    int64_t count, rows;
} Parameter;

/* Targets move by tau, in steps whose slot average is not 0. */
typedef struct {
    const Parameter *rows;
    int64_t count, average;
    double tau;
} Move;

/* table as refresh() takes it: count matrices, and then the targets', in steps whose slot is not 0. */
typedef struct {
    const int64_t *table;
    int64_t count, targets, slot, n_power_iterations;
    double rtol;
    int64_t max_steps;
} Refresh;

#include "product.h"
#ifdef HAS_BFLOAT16
#include "bfloat16.h"
#endif
#include "kernel.h"
#include "norm.h"
#include "network.h"
#include "actor_critic.h"
#include "tape.h"

/* table: for each matrix the addresses of W (m, n), u (m), block (r, n) and direction (r, n), all
 * contiguous, then m, n and r, and where to write the norm that was found: NaN where a matrix is zero
 * or not finite. By all threads of a parallel region. */
static void refresh_all(const int64_t *table, long count, long n_power_iterations, double rtol,
                        long max_steps, int *failed) {
    size_t most = 0;
    for (long k = 0; k < count; k++) {
        const size_t m = table[8 * k + 4], n = table[8 * k + 5], r = table[8 * k + 6];
        const size_t needed = 6 * r * (n + m);
        most = needed > most ? needed : most;
    }
    void *scratch = malloc(most * sizeof(REAL));
#pragma omp for schedule(dynamic)
    for (long k = 0; k < count; k++) {
        const int64_t *row = table + 8 * k;
        *(double *)row[7] = NAN;
        if (!scratch)
#pragma omp atomic write
            *failed = 1;
        else
            track((const REAL *)row[0], row[4], row[5], row[6], (REAL *)row[1], (REAL *)row[2],
                  (REAL *)row[3], scratch, n_power_iterations, rtol, max_steps, (double *)row[7]);
    }
    free(scratch);
}

/* Returns 0, or 1 if there is no memory for the scratch space. */
int refresh(const int64_t *table, long count, long n_power_iterations, double rtol, long max_steps,
            int threads) {
    int failed = 0;
#pragma omp parallel num_threads(threads) if (threads > 1 && count > 1)
    refresh_all(table, count, n_power_iterations, rtol, max_steps, &failed);
    return failed;
}

/* Rows of a batch in a panel. */
long panel(void) { return PANEL; }

/* Chooses how products in bfloat16 are computed: by AMX if it is asked for and may be used. Returns 0
 * if there are no such products, 1 for AVX512-BF16 and 2 for AMX. */
int choose_bfloat16(int tiles) {
#ifdef HAS_AMX
    /* The system gives a process the memory that tiles are saved in when it asks. */
    const long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    has_tiles = tiles && !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
    return 1 + has_tiles;
#else
    (void)tiles;
#ifdef HAS_BFLOAT16
    return 1;
#else
    return 0;
#endif
#endif
}

/* Each thread has its own part of every batch and of every weight, by rows, in all phases: what one core
 * has in its cache may be slow to reach for another. */
static long begin_of(long thread, long rows) {
    const long pieces = (rows + SHARE - 1) / SHARE, found = PART(thread, THREADS, pieces) * SHARE;
    return found < rows ? found : rows;
}

static void weights_of(const Network *networks, long count, long batch, int *failed) {
    const long panels = (batch + PANEL - 1) / PANEL;
    REAL *turned = malloc(panels * PANEL * PANEL * sizeof(REAL));
    if (!turned) {
#pragma omp atomic write
        *failed = 1;
        return;
    }
    for (long k = 0; k < count; k++)
        for (long i = 0; i < networks[k].depth; i++) {
            const Layer *layer = networks[k].layers + i;
            to_weights(layer, batch, begin_of(THREAD, layer->m), begin_of(THREAD + 1, layer->m),
                       turned);
        }
    free(turned);
}

/* What gradients of weights lack: the derivative of the scale. */
static void through_scale(const Network *networks, long count) {
    for (long k = 0; k < count; k++)
        for (long i = 0; i < networks[k].depth; i++) {
            const Layer *layer = networks[k].layers + i;
            if (layer->slope == 0) continue;
            double overlap = 0;
            for (long j = 0; j < layer->m; j++) overlap += layer->overlap[j];
            add_outer(layer->gw, begin_of(THREAD, layer->m), begin_of(THREAD + 1, layer->m),
                      layer->n, layer->slope / layer->scale * overlap, layer->u, layer->v);
        }
}

static void move_all(const Move *move_by, const int64_t *in) {
    const int averages = move_by->average < 0 ? 0 : in[move_by->average] != 0;
    for (long k = 0; k < move_by->count; k++) {
        const Parameter *row = move_by->rows + k;
        const long width = row->rows ? row->count / row->rows : 0;
        const long first = begin_of(THREAD, row->rows) * width;
        const long n = begin_of(THREAD + 1, row->rows) * width - first;
        move(row, first, n, averages, move_by->tau);
    }
#pragma omp barrier
#pragma omp single
    for (long k = 0; k < move_by->count; k++) ++*move_by->rows[k].steps;
}

/* Runs a tape: in has width slots for each of the steps, and results as many numbers as results_width.
 * Returns 0, or 1 if there is no memory for scratch space. */
int run(const Phase *phases, long count, const int64_t *inputs, long width, long steps,
        double *results, long results_width, long batch, int threads) {
    const long panels = (batch + PANEL - 1) / PANEL;
    int failed = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    for (long s = 0; s < steps; s++) {
        const int64_t *in = inputs + s * width;
        double *out = results + s * results_width;
        const Part part = {PART(THREAD, THREADS, panels), PART(THREAD + 1, THREADS, panels), batch};
        for (const Phase *phase = phases; phase < phases + count; phase++) {
            const Operation *ops = phase->arguments;
            const Network *networks = phase->arguments;
            if (phase->flag >= 0 && !in[phase->flag]) continue;
            switch (phase->kind) {
            case ON_PANELS:
                for (long k = 0; k < phase->count; k++) on_panels(ops + k, in, &part);
                break;
            case ONCE:
                for (long k = 0; !THREAD && k < phase->count; k++) once(ops + k, batch, out);
                break;
            case TO_WEIGHTS: weights_of(networks, phase->count, batch, &failed); break;
            case THROUGH_SCALE: through_scale(networks, phase->count); break;
            case MOVE: move_all(phase->arguments, in); break;
            case REFRESH: {
                const Refresh *r = phase->arguments;
                const long chosen = r->count + (r->slot >= 0 && in[r->slot] ? r->targets : 0);
                refresh_all(r->table, chosen, r->n_power_iterations, r->rtol, r->max_steps,
                            &failed);
                break;
            }
            }
#pragma omp barrier
        }
    }
    return failed;
}

/* One step for count parameters; nothing is averaged. */
void adam(const Parameter *rows, long count, int threads) {
    const Move step = {rows, count, -1, 0};
#pragma omp parallel num_threads(threads) if (threads > 1)
    move_all(&step, NULL);
}

/* table: for each target parameter its address, that of where it moves, and its number of entries. */
void average(const int64_t *table, long count, double tau, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (long k = 0; k < count; k++) {
        const int64_t *row = table + 3 * k;
        move_towards((REAL *)row[0], (const REAL *)row[1], row[2], tau);
    }
}

/* Transitions of a replay buffer, by their rows. table: for each array of observations or actions its
 * address, whether it is of doubles, its width, and where its columns begin in a matrix whose rows are
 * stride wide. rewards, dones and timeouts are of floats; a discount is gamma · (1 - done), where a
 * timeout is not done, computed in floats. */
void gather(const int64_t *table, long count, long stride, const float *rewards, const float *dones,
            const float *timeouts, double gamma, REAL *out_rewards, REAL *out_discounts,
            const int64_t *rows, long n, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1 && n * stride > WORTH_A_THREAD)
    for (long k = 0; k < count; k++) {
        const int64_t *row = table + 4 * k;
        const long first = PART(THREAD, THREADS, n), own = PART(THREAD + 1, THREADS, n) - first;
        gather_rows((void *)row[0], row[1], rows + first, own, row[2],
                    (REAL *)row[3] + first * stride, stride);
    }
    for (long i = 0; i < n; i++) {
        const float done = dones[rows[i]] * (1 - timeouts[rows[i]]);
        out_rewards[i] = rewards[rows[i]], out_discounts[i] = (1 - done) * (float)gamma;
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
