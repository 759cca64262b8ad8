/* What stands between the networks of an actor-critic update, on a panel. Of a matrix in panels, ROWS_OF
 * gives the first of its features for panel p. */

#define ROWS_OF(matrix, features) ((REAL *)(matrix) + p * (features) * PANEL)

/* Rows of a matrix in memory, stride apart, to the first features of a panel. */
static void load(const Load *load, const int64_t *in, long p, long rows) {
    const long stride = in[load->slot + 1];
    const REAL *x = (const REAL *)in[load->slot] + p * PANEL * stride;
    REAL *out = ROWS_OF(load->to, load->to_rows), own[PANEL * PANEL] = {0}, turned[PANEL * PANEL];
    for (long first = 0; first < load->width; first += PANEL) {
        const long width = load->width - first < PANEL ? load->width - first : PANEL;
        for (long r = 0; r < rows; r++)
            memcpy(own + r * PANEL, x + r * stride + first, sizeof(REAL) * width);
        turn(own, PANEL, turned);
        memcpy(out + first * PANEL, turned, sizeof(REAL) * width * PANEL);
    }
}

static void store(const Load *store, const int64_t *in, long p, long rows) {
    const long stride = in[store->slot + 1];
    REAL *x = (REAL *)in[store->slot] + p * PANEL * stride;
    const REAL *from = ROWS_OF(store->to, store->to_rows);
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < store->width; c++) x[r * stride + c] = from[c * PANEL + r];
}

static void copy(const Copy *copy, long p) {
    memcpy(ROWS_OF(copy->to, copy->to_rows), ROWS_OF(copy->from, copy->width),
           sizeof(REAL) * copy->width * PANEL);
}

/* Actions tanh(mean + std · noise) and their log-probability, with std = exp(log_std clamped), mean and
 * log_std being features behind each other, and noise a matrix in memory. Keeps std · noise. */
static void squash(const Squash *squash, const int64_t *in, long p, long rows) {
    const long dim = squash->dim;
    const REAL half_log_tau = (REAL)0.91893853320467274178;
    const REAL *mean = ROWS_OF(squash->y, 2 * dim), *log_std = mean + dim * PANEL;
    const REAL *noise = (const REAL *)in[squash->slot] + p * PANEL * dim;
    REAL *spread = ROWS_OF(squash->spread, dim), *actions = ROWS_OF(squash->to, squash->to_rows);
    REAL *log_prob = ROWS_OF(squash->log_prob, 1);
    double total = 0;
    for (long r = 0; r < rows; r++) {
        REAL sum = 0;
        for (long c = 0; c < dim; c++) {
            const long at = c * PANEL + r;
            const REAL low = log_std[at] < -20 ? -20 : log_std[at], s = low > 2 ? 2 : low;
            const REAL eps = noise[r * dim + c], wide = EXP(s) * eps, a = TANH(mean[at] + wide);
            sum -= eps * eps / 2 + s + half_log_tau + LOG(1 - a * a + (REAL)1e-6);
            spread[at] = wide, actions[at] = a;
        }
        log_prob[r] = sum;
        total += sum;
    }
    squash->total[p] = total;
}

/* Gradient of an action, of so many in a panel: the sum over count networks whose input it is. */
static REAL pull(const Network *networks, long count, long p, long dim, long at) {
    REAL sum = 0;
    for (long k = 0; k < count; k++) sum += ROWS_OF(networks[k].gx, dim)[at];
    return sum;
}

/* Gradients of mean and log_std from those of the actions and one of every
 * log-probability. */
static void unsquash(const Unsquash *back, long p, long batch, long rows) {
    const Squash *squash = back->of;
    const long dim = squash->dim;
    const REAL to_log_prob = (REAL)(*back->ent_coef / batch);
    const REAL *log_std = ROWS_OF(squash->y, 2 * dim) + dim * PANEL;
    const REAL *spread = ROWS_OF(squash->spread, dim);
    const REAL *actions = ROWS_OF(squash->to, squash->to_rows);
    REAL *to_mean = ROWS_OF(back->gy, 2 * dim), *to_log_std = to_mean + dim * PANEL;
    for (long c = 0; c < dim; c++)
        for (long r = 0; r < rows; r++) {
            const long at = c * PANEL + r;
            REAL g = pull(back->networks, back->count, p, dim, at);
            const REAL a = actions[at], rest = 1 - a * a;
            g += 2 * to_log_prob * a / (rest + (REAL)1e-6);
            to_mean[at] = g * rest;
            const int inside = log_std[at] >= -20 && log_std[at] <= 2;
            to_log_std[at] = inside ? to_mean[at] * spread[at] - to_log_prob : 0;
        }
}

/* Actions tanh(y), and with noise, a matrix in memory, the sum of both clamped to [-1, 1]. */
static void tanh_of(const Tanh *op, const int64_t *in, long p, long rows) {
    const REAL *y = ROWS_OF(op->y, op->y_rows);
    const REAL *noise = op->slot < 0 ? NULL : (const REAL *)in[op->slot] + p * PANEL * op->dim;
    REAL *actions = ROWS_OF(op->to, op->to_rows);
    for (long c = 0; c < op->dim; c++)
        for (long r = 0; r < rows; r++) {
            REAL a = TANH(y[c * PANEL + r]);
            if (noise) {
                a += noise[r * op->dim + c];
                a = a < -1 ? -1 : a > 1 ? 1 : a;
            }
            actions[c * PANEL + r] = a;
        }
}

/* Gradients of y from those of tanh(y): ∂tanh = 1 - tanh². */
static void untanh(const Untanh *back, long p, long rows) {
    const Tanh *op = back->of;
    const REAL *actions = ROWS_OF(op->to, op->to_rows);
    REAL *gy = ROWS_OF(back->gy, op->dim);
    for (long c = 0; c < op->dim; c++)
        for (long r = 0; r < rows; r++) {
            const long at = c * PANEL + r;
            gy[at] = pull(back->networks, back->count, p, op->dim, at) * (1 - actions[at] * actions[at]);
        }
}

/* What network k gives, one feature, and its gradient. */
#define VALUES(k, networks) ROWS_OF((networks)[k].layers[(networks)[k].depth - 1].y, 1)
#define GRADS(k, networks) ROWS_OF((networks)[k].layers[(networks)[k].depth - 1].gy, 1)

/* Gradients share · (q - (reward + discount · (min target - ent_coef · log_prob))), the least value
 * being that of all targets or of those that are listed; log_prob may be NULL. */
static void differences(const Differences *op, const int64_t *in, long p, long rows) {
    const REAL *rewards = (const REAL *)in[op->slot] + p * PANEL;
    const REAL *discounts = (const REAL *)in[op->slot + 1] + p * PANEL;
    const int64_t *listed = op->subset ? (const int64_t *)in[op->slot + 2] : NULL;
    const long asked = op->subset ? op->subset : op->count;
    REAL wanted[PANEL] = {0};
    double squares = 0;
    for (long r = 0; r < rows; r++) {
        REAL value = 0;
        for (long k = 0; k < asked; k++) {
            const REAL other = VALUES(listed ? listed[k] : k, op->targets)[r];
            value = !k || other < value || isnan(other) ? other : value;
        }
        if (op->log_prob)
            value -= (REAL)*op->ent_coef * ROWS_OF(op->log_prob, 1)[r];
        wanted[r] = rewards[r] + discounts[r] * value;
    }
    for (long k = 0; k < op->count; k++) {
        const REAL *q = VALUES(k, op->networks);
        REAL *grads = GRADS(k, op->networks);
        for (long r = 0; r < PANEL; r++) grads[r] = 0;
        for (long r = 0; r < rows; r++) {
            const REAL error = q[r] - wanted[r];
            squares += (double)error * error;
            grads[r] = error * (REAL)op->share;
        }
    }
    op->total[p] = squares;
}

/* Gradient share where a value is the least of its row, and else 0; sums the least values. */
static void least(const Climb *op, long p, long rows) {
    double total = 0;
    for (long k = 0; k < op->count; k++)
        for (long r = 0; r < PANEL; r++) GRADS(k, op->networks)[r] = 0;
    for (long r = 0; r < rows; r++) {
        long best = 0;
        for (long k = 1; k < op->count; k++) {
            const REAL value = VALUES(k, op->networks)[r], low = VALUES(best, op->networks)[r];
            if (value < low || isnan(value)) best = k;
        }
        GRADS(best, op->networks)[r] = (REAL)op->share;
        total += VALUES(best, op->networks)[r];
    }
    op->total[p] = total;
}

/* Gradient share of every value; sums them. */
static void all(const Climb *op, long p, long rows) {
    double total = 0;
    for (long k = 0; k < op->count; k++) {
        for (long r = 0; r < PANEL; r++) GRADS(k, op->networks)[r] = r < rows ? (REAL)op->share : 0;
        for (long r = 0; r < rows; r++) total += VALUES(k, op->networks)[r];
    }
    op->total[p] = total;
}

/* The entropy coefficient as it is, of its logarithm where that is learned. */
static void read_temperature(Temperature *t, double *results) {
    if (t->log) t->value = EXP(*(const REAL *)t->log);
    results[0] = t->value;
    results[1] = t->log ? *(const REAL *)t->log : 0;
}

/* One step of Adam (Kingma & Ba 2015, algorithm 1, arranged as in torch), for one parameter; its
 * weight decay is decoupled or added to the gradient. */
static void adam_step(REAL *restrict p, const REAL *restrict g, REAL *restrict m, REAL *restrict v,
                      long count, const AdamOptions *o, double steps) {
    const REAL first = (REAL)(1 - o->beta1), kept = (REAL)o->beta2, fresh = (REAL)(1 - o->beta2);
    const REAL rate = (REAL)(o->lr / (1 - pow(o->beta1, steps)));
    const REAL root = (REAL)sqrt(1 - pow(o->beta2, steps)), eps = (REAL)o->eps;
    const REAL shrink = o->decoupled ? (REAL)(1 - o->lr * o->weight_decay) : 1;
    const REAL decay = o->decoupled ? 0 : (REAL)o->weight_decay, sign = o->maximize ? -1 : 1;
#pragma omp simd
    for (long c = 0; c < count; c++) {
        const REAL before = p[c] * shrink, grad = sign * g[c] + decay * before;
        m[c] += first * (grad - m[c]);
        v[c] = kept * v[c] + fresh * grad * grad;
        p[c] = before - rate * m[c] / (SQRT(v[c]) / root + eps);
    }
}

static void move_towards(REAL *restrict target, const REAL *restrict p, long count, double tau) {
    const REAL kept = (REAL)(1 - tau), share = (REAL)tau;
#pragma omp simd
    for (long c = 0; c < count; c++) target[c] = kept * target[c] + share * p[c];
}

/* Rows of a matrix whose rows are width wide, converted, to every stride-th place of out. */
static void gather_rows(const void *from, int from_double, const int64_t *rows, long count,
                        long width, REAL *restrict out, long stride) {
    for (long i = 0; i < count; i++)
        for (long c = 0; c < width; c++)
            out[i * stride + c] = from_double ? (REAL)((const double *)from)[rows[i] * width + c]
                                              : (REAL)((const float *)from)[rows[i] * width + c];
}
