/* Operations of a tape; included once for each REAL. */

/* One operation, for a thread's part of a batch. */
static void NAME(on_panels)(const Operation *op, const int64_t *in, const Part *part) {
    const long batch = part->batch;
    const void *args = op->arguments;
    const Through *through = args;
    if (op->kind == FORWARD || op->kind == BACKWARD || op->kind == BACKWARD_SOME) {
        for (long k = 0; k < through->count; k++)
            if (op->kind == FORWARD)
                NAME(forward)(through->networks + k, part);
            else if (op->kind == BACKWARD)
                NAME(backward)(through->networks + k, part, through->to_input);
            else
                NAME(backward_some)(through->networks + k, part);
        return;
    }
    for (long p = part->first; p < part->last; p++) {
        const long rows = batch - p * PANEL < PANEL ? batch - p * PANEL : PANEL;
        switch (op->kind) {
        case LOAD: NAME(load)(args, in, p, rows); break;
        case STORE: NAME(store)(args, in, p, rows); break;
        case COPY: NAME(copy)(args, p); break;
        case SQUASH: NAME(squash)(args, in, p, rows); break;
        case UNSQUASH: NAME(unsquash)(args, p, batch, rows); break;
        case TANH_OF: NAME(tanh)(args, in, p, rows); break;
        case UNTANH: NAME(untanh)(args, p, rows); break;
        case DIFFERENCES: NAME(differences)(args, in, p, rows); break;
        case LEAST: NAME(least)(args, p, rows); break;
        case ALL: NAME(all)(args, p, rows); break;
        }
    }
}

/* One operation that is done once for a batch. */
static void NAME(once)(const Operation *op, long batch, double *results) {
    void *args = op->arguments;
    switch (op->kind) {
    case SUM: {
        const Sum *sum = args;
        double total = 0;
        for (long p = 0; p < (batch + PANEL - 1) / PANEL; p++) total += sum->parts[p];
        results[sum->to] = total;
        break;
    }
    case READ_TEMPERATURE: NAME(read_temperature)(args, results); break;
    case TO_TEMPERATURE: {
        const Temperature *t = args;
        if (t->grad) *(REAL *)t->grad = (REAL)-(results[t->from] / batch + t->wanted);
        break;
    }
    case JOIN: {
        const Join *join = args;
        for (long k = 0; k < join->count; k++)
            memcpy((void *)join->table[3 * k], (const void *)join->table[3 * k + 1],
                   sizeof(REAL) * join->table[3 * k + 2]);
        break;
    }
    case SCALE: {
        const Scale *s = args;
        for (long k = 0; k < s->count; k++) {
            const Scaled *one = s->rows + k;
            Layer *layer = one->layer;
            const double sigma =
                isnan(*one->sigma)
                    ? NAME(sigma)(layer->w, layer->m, layer->n, layer->u, layer->v)
                    : *one->sigma;
            const int acts = one->capped ? sigma > one->coef : sigma != 0;
            layer->scale = acts ? one->coef / sigma : one->capped ? 1 : one->coef;
            layer->slope = acts && !one->detached ? -layer->scale / sigma : 0;
        }
        break;
    }
    }
}

/* A thread's part of a parameter, for adam() and average(). */
static void NAME(move)(const Parameter *row, long first, long n, int averages, double tau) {
    REAL *p = (REAL *)row->p + first;
    NAME(adam)(p, (const REAL *)row->g + first, (REAL *)row->m + first, (REAL *)row->v + first, n,
               row->options, *row->steps + 1);
    if (row->target && averages) NAME(average)((REAL *)row->target + first, p, n, tau);
}
