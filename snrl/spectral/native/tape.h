/* Operations of a tape. */

/* One operation, for a thread's part of a batch. */
static void on_panels(const Operation *op, const int64_t *in, const Part *part) {
    const long batch = part->batch;
    const void *args = op->arguments;
    const Through *through = args;
    if (op->kind == FORWARD || op->kind == BACKWARD || op->kind == BACKWARD_SOME) {
        for (long k = 0; k < through->count; k++)
            if (op->kind == FORWARD)
                forward(through->networks + k, part);
            else if (op->kind == BACKWARD)
                backward(through->networks + k, part, through->to_input);
            else
                backward_some(through->networks + k, part);
        return;
    }
    for (long p = part->first; p < part->last; p++) {
        const long rows = batch - p * PANEL < PANEL ? batch - p * PANEL : PANEL;
        switch (op->kind) {
        case LOAD: load(args, in, p, rows); break;
        case STORE: store(args, in, p, rows); break;
        case COPY: copy(args, p); break;
        case SQUASH: squash(args, in, p, rows); break;
        case UNSQUASH: unsquash(args, p, batch, rows); break;
        case TANH_OF: tanh_of(args, in, p, rows); break;
        case UNTANH: untanh(args, p, rows); break;
        case DIFFERENCES: differences(args, in, p, rows); break;
        case LEAST: least(args, p, rows); break;
        case ALL: all(args, p, rows); break;
        }
    }
}

/* One operation that is done once for a batch. */
static void once(const Operation *op, long batch, double *results) {
    void *args = op->arguments;
    switch (op->kind) {
    case SUM: {
        const Sum *sum = args;
        double total = 0;
        for (long p = 0; p < (batch + PANEL - 1) / PANEL; p++) total += sum->parts[p];
        results[sum->to] = total;
        break;
    }
    case READ_TEMPERATURE: read_temperature(args, results); break;
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
                    ? sigma_of(layer->w, layer->m, layer->n, layer->u, layer->v)
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
static void move(const Parameter *row, long first, long n, int averages, double tau) {
    REAL *p = (REAL *)row->p + first;
    adam_step(p, (const REAL *)row->g + first, (REAL *)row->m + first, (REAL *)row->v + first, n,
              row->options, *row->steps + 1);
    if (row->target && averages) move_towards((REAL *)row->target + first, p, n, tau);
}
