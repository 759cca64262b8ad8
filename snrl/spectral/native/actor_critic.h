/* What stands between the networks of an actor-critic update; included once for each REAL. */

/* Actions tanh(mean + std · noise) and their log-probability, with std = exp(log_std clamped) and
 * mean and log_std side by side in the rows of y. Overwrites noise with std · noise. Returns the sum
 * of the log-probabilities. */
static double NAME(act)(const REAL *y, REAL *noise, REAL *actions, long stride, REAL *log_prob,
                        long batch, long dim) {
    const REAL half_log_tau = (REAL)0.91893853320467274178;
    double total = 0;
    for (long i = 0; i < batch; i++) {
        const REAL *mean = y + 2 * dim * i, *log_std = mean + dim;
        REAL *eps = noise + dim * i, *a = actions + stride * i, sum = 0;
        for (long c = 0; c < dim; c++) {
            const REAL low = log_std[c] < -20 ? -20 : log_std[c], s = low > 2 ? 2 : low;
            const REAL spread = EXP(s) * eps[c];
            a[c] = TANH(mean[c] + spread);
            sum -= eps[c] * eps[c] / 2 + s + half_log_tau + LOG(1 - a[c] * a[c] + (REAL)1e-6);
            eps[c] = spread;
        }
        log_prob[i] = sum;
        total += sum;
    }
    return total;
}

/* Gradients of mean and log_std, side by side in gy, of count · batch gradients of the actions, which
 * are added up, and one of every log-probability. */
static void NAME(act_backward)(const REAL *y, const REAL *spread, const REAL *actions, long stride,
                               const REAL *to_actions, long count, double to_log_prob, REAL *gy,
                               long batch, long dim) {
    for (long i = 0; i < batch; i++) {
        const REAL *log_std = y + 2 * dim * i + dim, *a = actions + stride * i;
        REAL *to_mean = gy + 2 * dim * i, *to_log_std = to_mean + dim;
        for (long c = 0; c < dim; c++) {
            REAL g = 0;
            for (long k = 0; k < count; k++) g += to_actions[(k * batch + i) * dim + c];
            const REAL rest = 1 - a[c] * a[c];
            g += (REAL)(2 * to_log_prob) * a[c] / (rest + (REAL)1e-6);
            to_mean[c] = g * rest;
            const int inside = log_std[c] >= -20 && log_std[c] <= 2;
            to_log_std[c] = inside ? to_mean[c] * spread[dim * i + c] - (REAL)to_log_prob : 0;
        }
    }
}

/* Errors q - (reward + discount · (min target - ent_coef · log_prob)), times share, to errors;
 * log_prob may be NULL. Returns the sum of their squares, without the share. */
static double NAME(temporal_differences)(const REAL *q, const REAL *target, long count,
                                         const REAL *log_prob, double ent_coef,
                                         const REAL *rewards, const REAL *discounts, double share,
                                         REAL *errors, long batch) {
    double squares = 0;
    for (long i = 0; i < batch; i++) {
        REAL value = target[i];
        for (long k = 1; k < count; k++) {
            const REAL other = target[k * batch + i];
            value = other < value || isnan(other) ? other : value;
        }
        if (log_prob) value -= (REAL)ent_coef * log_prob[i];
        const REAL wanted = rewards[i] + discounts[i] * value;
        for (long k = 0; k < count; k++) {
            const REAL error = q[k * batch + i] - wanted;
            squares += (double)error * error;
            errors[k * batch + i] = error * (REAL)share;
        }
    }
    return squares;
}

/* share where a value is the least of its column, and else 0, to grads. Returns the sum of the
 * least values. */
static double NAME(least)(const REAL *q, long count, double share, REAL *grads, long batch) {
    double total = 0;
    for (long i = 0; i < batch; i++) {
        long best = 0;
        for (long k = 0; k < count; k++) {
            grads[k * batch + i] = 0;
            if (q[k * batch + i] < q[best * batch + i] || isnan(q[k * batch + i])) best = k;
        }
        grads[best * batch + i] = (REAL)share;
        total += q[best * batch + i];
    }
    return total;
}

/* One step of Adam (Kingma & Ba 2015, algorithm 1, arranged as in torch), for one parameter; its
 * weight decay is decoupled or added to the gradient. */
static void NAME(adam)(REAL *restrict p, const REAL *restrict g, REAL *restrict m, REAL *restrict v,
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

static void NAME(average)(REAL *restrict target, const REAL *restrict p, long count, double tau) {
    const REAL kept = (REAL)(1 - tau), share = (REAL)tau;
#pragma omp simd
    for (long c = 0; c < count; c++) target[c] = kept * target[c] + share * p[c];
}

/* Rows of a matrix whose rows are width wide, converted, to every stride-th place of out. */
static void NAME(gather)(const void *from, int from_double, const int64_t *rows, long count,
                         long width, REAL *restrict out, long stride) {
    for (long i = 0; i < count; i++)
        for (long c = 0; c < width; c++)
            out[i * stride + c] = from_double ? (REAL)((const double *)from)[rows[i] * width + c]
                                              : (REAL)((const float *)from)[rows[i] * width + c];
}
