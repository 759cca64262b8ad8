/* Networks of linear layers, norms and rectifiers, forward and backward; included once for each REAL.
 *
 * Matrices are stored by rows, and BLAS reads them by columns: to it each is its transpose. Work is
 * cut into pieces that no two threads share, by rows of the batch or by rows of a weight, so BLAS
 * itself is to use one thread. */

/* Rows first to last of the batch. */
static void NAME(forward)(const Network *network, long first, long last) {
    const REAL *x = (const REAL *)network->x + first * network->stride;
    int rows = (int)(last - first), stride = (int)network->stride;
    const REAL zero = 0;
    for (long i = 0; i < network->depth; i++) {
        const Layer *layer = network->layers + i;
        const int m = (int)layer->m, n = (int)layer->n;
        const REAL scale = (REAL)layer->scale;
        REAL *y = (REAL *)layer->y + first * m;
        GEMM("T", "N", &m, &rows, &n, &scale, layer->w, &n, x, &stride, &zero, y, &m);
        NAME(finish)(y, layer->b, rows, m, layer->relu && !layer->norm, 1);
        if (layer->norm) NAME(norm)(layer->norm, y, first, last, m, layer->relu);
        x = y;
        stride = m;
    }
}

/* From the gradient of what the last layer gave to those of its products, and so on down; for rows
 * first to last of the batch. */
static void NAME(backward)(const Network *network, long first, long last, int to_input) {
    const int rows = (int)(last - first);
    const REAL zero = 0;
    for (long i = network->depth - 1; i >= 0; i--) {
        const Layer *layer = network->layers + i;
        const int m = (int)layer->m, n = (int)layer->n, from = i ? 0 : (int)network->from_column;
        const int width = n - from;
        const REAL scale = (REAL)layer->scale;
        REAL *gy = (REAL *)layer->gy + first * m, *g = (REAL *)layer->ga + first * m;
        if (layer->relu)
            NAME(through_layer)(gy, (REAL *)layer->y + first * m, gy, NULL, rows, m, 1);
        if (layer->norm) NAME(through_norm)(layer->norm, gy, g, first, last, m);
        if (i || to_input)
            GEMM("N", "N", &width, &rows, &m, &scale, (const REAL *)layer->w + from, &n, g, &m,
                 &zero, (REAL *)(i ? layer[-1].gy : network->gx) + first * width, &width);
    }
}

/* Sums of the rows of g, width wide and stride apart, multiplied by those of z if there is one. */
static void NAME(sum_rows)(const REAL *g, const REAL *z, long count, long stride,
                           REAL *restrict sums, long width) {
    memset(sums, 0, sizeof(REAL) * width);
    for (long k = 0; k < count * stride; k += stride)
        if (z)
#pragma omp simd
            for (long c = 0; c < width; c++) sums[c] += g[k + c] * z[k + c];
        else
#pragma omp simd
            for (long c = 0; c < width; c++) sums[c] += g[k + c];
}

/* Gradients of rows first to last of a layer's weight, and of what else has an entry for each row, from
 * what backward() left. */
static void NAME(to_weights)(const Network *network, long i, long batch, long first, long last) {
    const Layer *layer = network->layers + i;
    const REAL *x = i ? layer[-1].y : network->x, *g = (const REAL *)layer->ga + first;
    const int m = (int)layer->m, n = (int)layer->n, stride = i ? n : (int)network->stride;
    const int rows = (int)(last - first), depth = (int)batch;
    const REAL scale = (REAL)layer->scale, zero = 0;
    GEMM("N", "T", &n, &rows, &depth, &scale, x, &stride, g, &m, &zero,
         (REAL *)layer->gw + first * n, &n);
    if (layer->gb) NAME(sum_rows)(g, NULL, batch, m, (REAL *)layer->gb + first, rows);
    if (!layer->norm) return;
    const Norm *norm = layer->norm;
    const REAL *gy = (const REAL *)layer->gy + first, *z = (const REAL *)norm->z + first;
    if (norm->ggamma) NAME(sum_rows)(gy, z, batch, m, (REAL *)norm->ggamma + first, rows);
    if (norm->gbeta) NAME(sum_rows)(gy, NULL, batch, m, (REAL *)norm->gbeta + first, rows);
}
