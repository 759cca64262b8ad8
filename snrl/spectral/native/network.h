/* Networks of linear layers, norms and rectifiers, forward and backward.
 *
 * Work is cut into pieces that no two threads share, panels of the batch or rows of a weight, so
 * results do not depend on the number of threads. */

/* y = scale · w x + b, and the rectifier, for the few rows of a single panel, one after the other: as
 * actions for an environment are asked for. */
static void few(const Layer *layer, const REAL *x, long rows, REAL *y) {
    const REAL *w = layer->w, *b = layer->b;
    const long m = layer->m, n = layer->n;
    const int relu = layer->relu && !layer->norm;
    REAL row[n];
    for (long r = 0; r < rows; r++) {
        for (long k = 0; k < n; k++) row[k] = x[k * PANEL + r];
        for (long i = 0; i < m; i++) {
            const REAL value = (REAL)layer->scale * dot(w + i * n, row, n) + (b ? b[i] : 0);
            y[i * PANEL + r] = relu && value < 0 ? 0 : value;
        }
    }
}

/* product() with a layer's weight, in the precision that it asks for. */
static void layer_product(const Layer *layer, const REAL *a, long down, long along, long count,
                          const REAL *b, long b_rows, long depth, long panels, const REAL *bias,
                          int relu, const REAL *mask, REAL *restrict out) {
    const REAL scale = (REAL)layer->scale;
#ifdef HAS_BFLOAT16
    if (layer->bfloat16 && product_bfloat16((const float *)a, down, along, count, (const float *)b,
                                            b_rows, depth, panels, (float)scale,
                                            (const float *)bias, relu, (const float *)mask,
                                            (float *)out))
        return;
#endif
    product(a, down, along, count, b, b_rows, depth, panels, scale, bias, relu, mask, out);
}

/* Panels first to last of a batch. */
static void forward(const Network *network, const Part *part) {
    const long first = part->first, count = part->last - first;
    for (long k = 0; k < network->depth; k++) {
        const Layer *layer = network->layers + k;
        const long m = layer->m, n = layer->n;
        const REAL *x = (const REAL *)layer->x + first * layer->x_rows * PANEL;
        REAL *y = (REAL *)layer->y + first * m * PANEL;
        if (part->batch <= FEW)
            few(layer, x, part->batch, y);
        else
            layer_product(layer, layer->w, n, 1, m, x, layer->x_rows, n, count, layer->b,
                          layer->relu && !layer->norm, NULL, y);
        for (long p = first; layer->norm && p < part->last; p++, y += m * PANEL) {
            apply_norm(layer->norm, y, p, m);
            for (long c = 0; layer->relu && c < m * PANEL; c++) y[c] = y[c] < 0 ? 0 : y[c];
        }
    }
}

/* From gradients of what the last layer gave to those of its products, and so on down. */
static void backward(const Network *network, const Part *part, int to_input) {
    const long first = part->first, count = part->last - first;
    for (long k = network->depth - 1; k >= 0; k--) {
        const Layer *layer = network->layers + k, *below = k ? layer - 1 : NULL;
        const long m = layer->m, n = layer->n, from = k ? 0 : network->from_column;
        REAL *gy = (REAL *)layer->gy + first * m * PANEL, *g = (REAL *)layer->ga + first * m * PANEL;
        const REAL *y = (const REAL *)layer->y + first * m * PANEL;
        if (layer->relu && k == network->depth - 1)
            for (long c = 0; c < count * m * PANEL; c++) gy[c] = y[c] <= 0 ? 0 : gy[c];
        for (long p = 0; layer->norm && p < count; p++)
            through_norm(layer->norm, gy + p * m * PANEL, g + p * m * PANEL, first + p, m);
        if (!below && !to_input) break;
        const REAL *mask =
            below && below->relu ? (const REAL *)below->y + first * n * PANEL : NULL;
        layer_product(layer, (const REAL *)layer->w + from, 1, n, n - from, g, m, m, count, NULL, 0,
                      mask,
                      (REAL *)(below ? below->gy : network->gx) + first * (n - from) * PANEL);
    }
}

/* Where the features of row r of some panels are, PANEL apart. */
#define AT(panels, features, r) ((panels) + ((r) / PANEL * (features)) * PANEL + (r) % PANEL)

/* backward() to the input alone, for a network of one value and without norms: rows without a gradient,
 * as all have but in one of the networks whose least value counts, are left out. Those that have one
 * move to the front, and the gradients of their inputs back to their places. */
static void backward_group(const Network *network, long first, long last) {
    const long rows = (last - first) * PANEL;
    const Layer *top = network->layers + network->depth - 1;
    REAL *g = (REAL *)top->gy + first * PANEL, *out = NULL;
    const REAL *values = (const REAL *)top->y + first * PANEL;
    long chosen[GROUP * PANEL], some = 0;
    for (long r = 0; r < rows; r++)
        if (g[r] != 0 && !(top->relu && values[r] <= 0)) chosen[some] = r, g[some++] = g[r];
    const long panels = (some + PANEL - 1) / PANEL;
    for (long r = some; r < panels * PANEL; r++) g[r] = 0;
    for (const Layer *layer = top; layer >= network->layers; layer--, g = out) {
        const Layer *below = layer > network->layers ? layer - 1 : NULL;
        const long from = below ? 0 : network->from_column, n = layer->n - from;
        out = (REAL *)(below ? below->gy : network->gx) + first * n * PANEL;
        layer_product(layer, (const REAL *)layer->w + from, 1, layer->n, n, g, layer->m, layer->m,
                      panels, NULL, 0, NULL, out);
        for (long q = 0; below && below->relu && q < some; q++) {
            const REAL *y = AT((const REAL *)below->y + first * n * PANEL, n, chosen[q]);
            REAL *place = AT(out, n, q);
            for (long i = 0; i < n; i++)
                if (y[i * PANEL] <= 0) place[i * PANEL] = 0;
        }
    }
    const long n = network->layers->n - network->from_column;
    for (long r = rows - 1; r >= 0; r--) {
        const int has = some && chosen[some - 1] == r;
        if (has) some--;
        for (long i = 0; i < n; i++) AT(out, n, r)[i * PANEL] = has ? AT(out, n, some)[i * PANEL] : 0;
    }
}

static void backward_some(const Network *network, const Part *part) {
    for (long p = part->first; p < part->last; p += GROUP)
        backward_group(network, p, p + GROUP < part->last ? p + GROUP : part->last);
}

/* Sum over a batch of a feature, times another if there is one: of m and of k features in a panel. */
static REAL sum_batch(const REAL *g, long m, const REAL *z, long k, long batch) {
    REAL lanes[PANEL] = {0}, sum = 0;
    for (long first = 0; first < batch; first += PANEL, g += m * PANEL) {
        const long rows = batch - first < PANEL ? batch - first : PANEL;
        const REAL *other = z ? z + k * first : NULL;
        if (rows == PANEL && other)
#pragma omp simd
            for (long r = 0; r < PANEL; r++) lanes[r] += g[r] * other[r];
        else if (rows == PANEL)
#pragma omp simd
            for (long r = 0; r < PANEL; r++) lanes[r] += g[r];
        else
            for (long r = 0; r < rows; r++) lanes[r] += other ? g[r] * other[r] : g[r];
    }
#pragma omp simd reduction(+ : sum)
    for (long r = 0; r < PANEL; r++) sum += lanes[r];
    return sum;
}

/* Gradients of rows first to last of a layer's weight, as if its scale were fixed, and of what else has
 * an entry for each row, from what forward() and backward() have left. turned is memory for PANEL
 * features of all rows of a batch. */
static void to_weights(const Layer *layer, long batch, long first, long last, REAL *turned) {
    const long m = layer->m, n = layer->n, panels = (batch + PANEL - 1) / PANEL;
    const REAL *g = layer->ga, *x = layer->x, scale = (REAL)layer->scale;
    const int is_low = m <= LOW;
    int is_done = 0;
#ifdef HAS_BFLOAT16
    is_done = layer->bfloat16 && to_weight_bfloat16(layer, batch, first, last);
#endif
    for (long i = first; !is_done && is_low && i < last; i++)
        for (long c = 0; c < n; c++)
            ((REAL *)layer->gw)[i * n + c] =
                scale * sum_batch(g + i * PANEL, m, x + c * PANEL, layer->x_rows, batch);
    for (long c = 0; !is_done && !is_low && c < n; c += PANEL) {
        const long width = n - c < PANEL ? n - c : PANEL;
        for (long p = 0; p < panels; p++)
            turn(x + (p * layer->x_rows + c) * PANEL, width, turned + p * PANEL * PANEL);
        for (long i = first; i < last; i += TILE) {
            const long rows = last - i < TILE ? last - i : TILE;
            /* The last panel may be short. */
            const long full = batch / PANEL, step = m * PANEL;
            const REAL *a = g + i * PANEL, *left = a + full * step;
            const REAL *last_b = turned + full * PANEL * PANEL;
            REAL sums[TILE * PANEL] = {0};
            if (2 * width > PANEL) {
                multiply_some(GRADIENT, rows, 2, a, PANEL, turned, PANEL, full, step, sums);
                multiply_some(GRADIENT, rows, 2, left, PANEL, last_b, batch % PANEL, 1, 0, sums);
            } else {
                multiply_some(GRADIENT, rows, 1, a, PANEL, turned, PANEL, full, step, sums);
                multiply_some(GRADIENT, rows, 1, left, PANEL, last_b, batch % PANEL, 1, 0, sums);
            }
            for (long q = 0; q < rows; q++) {
                REAL *out = (REAL *)layer->gw + (i + q) * n + c;
                for (long r = 0; r < width; r++) out[r] = scale * sums[q * PANEL + r];
            }
        }
    }
    const Norm *norm = layer->norm;
    for (long i = first; layer->slope != 0 && i < last; i++)
        layer->overlap[i] = dot((REAL *)layer->gw + i * n, (const REAL *)layer->w + i * n, n);
    for (long i = first; i < last; i++) {
        const REAL *gy = (const REAL *)layer->gy + i * PANEL;
        if (layer->gb)
            ((REAL *)layer->gb)[i] = sum_batch(g + i * PANEL, m, NULL, 0, batch);
        if (norm && norm->ggamma)
            ((REAL *)norm->ggamma)[i] =
                sum_batch(gy, m, (const REAL *)norm->z + i * PANEL, m, batch);
        if (norm && norm->gbeta)
            ((REAL *)norm->gbeta)[i] = sum_batch(gy, m, NULL, 0, batch);
    }
}
