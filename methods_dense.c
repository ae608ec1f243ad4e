/* methods_dense.c - SC-CLIP and ResCLIP, and CLIPtrase's attention: rows of methods.c's table that need more than one changed
 * block (MODEL.md 6.4 to 6.6). Blocks are counted from 1; papers name those of 12 layers, other depths take the nearest. */
#include "methods.h"
#include <math.h>
#include <string.h>

/* CLIPtrase (MODEL.md 6.6): softmax(q q^T/sqrt d), the same of k and of v; their sum, not the mean */
ag_tensor *method_attend_qkv(const head_inputs *in) {
    ag_tensor *a = method_self_attention(in, in->q), *b = method_self_attention(in, in->k);
    return ag_add(in->t, ag_add(in->t, a, b), method_self_attention(in, in->v));
}

/* Block b of 12 in a model of L: min(L-1, max(1, floor(bL/12 + 1/2))) */
static size_t at_depth(size_t b, size_t L) {
    size_t at = (2 * b * L + 12) / 24;
    return at < 1 ? 1 : at > L - 1 ? L - 1 : at;
}

static real *take(explainer *x, size_t rows, size_t cols) {
    return arena_numbers(x->memory, rows, cols, "dense method", &x->tape.fault);
}

/* What has no class token among its patches was refused before (methods.c). */
static bool fits(explainer *x) {
    const clip_config *c = &x->model->config;
    if (c->vision.layers > 1) return true;
    return fault_family(&x->tape.fault, x->how->name,
                        "no map of a model of one block: it looks at the last two; legrad explains every model");
}

/* ---- walking the plain blocks ------------------------------------------------------------------------ */
typedef void seen(explainer *x, void *arg, size_t block, const real *out, const ag_tensor *A);
/* Blocks 1 to L-1 over x_0, in place; after each, see(its number, its output [B,n,D], its attention [B H,n,n], of those that
 * `attended` lists); B pictures side by side. */
static bool walk(explainer *x, ag_tensor *tokens, const size_t *attended, size_t attended_count, seen *see, void *arg) {
    const clip_model *m = x->model;
    for (size_t b = 1; b < m->config.vision.layers; b++) {
        ag_mark mark = ag_tape_mark(&x->tape);
        clip_taps taps = {0};
        bool attention = false;
        for (size_t i = 0; i < attended_count; i++) attention = attention || attended[i] == b;
        ag_tensor *out = clip_block(&x->tape, &x->run, &m->blocks[b - 1], tokens, attention ? &taps : NULL, false);
        if (!out) return false;
        see(x, arg, b, out->data, taps.A);
        memcpy(tokens->data, out->data, ag_size(tokens) * sizeof(real));
        ag_tape_reset(&x->tape, mark);
    }
    return true;
}

/* ==== CLIPtrase ============================================================================================ */
/* (6.29)  C = mean over heads of (cos(q,q) + cos(k,k) + cos(v,v))/3 in block L-1, of its input x_{L-2} [B,n,D];
 * R_ij = max(C_ij - C_class,j, 0) between patches: what every patch correlates with is taken away. */
static void correlate(explainer *x, const real *input) {
    size_t n = x->n, P = n - 1, H = x->model->config.vision.heads, D = x->model->config.vision.width, B = x->batch;
    ag_tape *t = &x->tape;
    head_inputs in = method_inputs(x, &x->model->blocks[x->model->config.vision.layers - 2], ag_constant(t, input, B, n, D));
    ag_tensor *sides[3] = {in.q, in.k, in.v}, *sum = ag_new(t, B, n, n);
    if (!sum) return;
    memset(sum->data, 0, B * n * n * sizeof(real));
    for (int s = 0; s < 3 && sides[s]; s++) {
        ag_tensor *u = ag_reshape(t, ag_normalize(t, ag_reshape(t, sides[s], B * n, H, D / H)), B, n, D);
        ag_tensor *cosine = ag_scores(t, u, u, H, 1);
        for (size_t h = 0; cosine && h < B * H; h++)
            k_axpy(1 / (real)(3 * H), cosine->data + h * n * n, sum->data + h / H * n * n, n * n);
    }
    for (size_t i = 0; i < B * P; i++) {
        const real *C = sum->data + i / P * n * n, *row = C + (1 + i % P) * n;
        for (size_t j = 0; j < P; j++) x->clean[i * P + j] = row[1 + j] > C[1 + j] ? row[1 + j] - C[1 + j] : 0;
    }
}

static void correlate_before_last(explainer *x, void *arg, size_t b, const real *out, const ag_tensor *A) {
    (void)arg, (void)A;
    if (b + 2 == x->model->config.vision.layers) correlate(x, out);
}

bool method_open_cliptrase(explainer *x, ag_tensor *patches, const real *pixels) {
    const clip_model *m = x->model;
    size_t E = m->config.embed, P = x->gh * x->gw;
    (void)pixels;
    if (!fits(x)) return false;
    ag_tensor *kept = ag_new(&x->tape, x->batch, x->n, E);
    x->clean = take(x, x->batch * P, P);
    ag_mark mark = ag_tape_mark(&x->tape);
    ag_tensor *tokens = clip_embed(&x->tape, m, patches, x->gh, x->gw, x->how->position);
    if (!kept || !x->clean || !tokens) return false;
    if (m->config.vision.layers == 2) correlate(x, tokens->data);
    if (!walk(x, tokens, NULL, 0, correlate_before_last, NULL)) return false;
    ag_tensor *y = method_second_path(x, &m->blocks[m->config.vision.layers - 1], tokens);
    ag_tensor *out = y ? clip_project(&x->tape, m, y) : NULL;
    if (!out) return false;
    memcpy(kept->data, out->data, ag_size(kept) * sizeof(real));
    x->tokens = kept->data;
    ag_tape_reset(&x->tape, mark);
    return true;
}

/* ==== SC-CLIP ============================================================================================== */
/* [B,n,D]: x_9, x_4, the sum of x_4 to x_10 (6.28), and which blocks these are at this depth */
typedef struct { real *middle, *low, *total; size_t middle_at, low_at, from, to; } levels;

static void keep_levels(explainer *x, void *arg, size_t b, const real *out, const ag_tensor *A) {
    levels *l = arg;
    size_t numbers = x->batch * x->n * x->model->config.vision.width;
    (void)A;
    if (b == l->middle_at) memcpy(l->middle, out, numbers * sizeof *out);
    if (b == l->low_at) memcpy(l->low, out, numbers * sizeof *out);
    if (b >= l->from && b <= l->to) k_axpy(1, out, l->total, numbers);
}

/* ---- (6.25) LOF as released: squared distances; rho_i = k/K_i, K_i the k-th nearest's; score = mean_j rho_j / rho_i ---- */
enum { SUMS = 8 }; /* side by side, so that they become vectors */
static double distance2(const real *a, const real *b, size_t n) {
    double sum[SUMS] = {0}, all = 0;
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (size_t k = 0; k < SUMS; k++) {
            double d = (double)(a[i + k] - b[i + k]);
            sum[k] += d * d;
        }
    for (; i < n; i++) sum[0] += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
    for (size_t k = 0; k < SUMS; k++) all += sum[k];
    return all;
}

/* The k nearest others of patch i, nearest first, into near; all distances of i are in d [P]. */
static void nearest(const double *d, size_t P, size_t i, size_t k, uint32_t *near) {
    size_t count = 0;
    for (size_t j = 0; j < P; j++) {
        if (j == i || (count == k && !(d[j] < d[near[k - 1]]))) continue;
        size_t at = count < k ? count++ : k - 1;
        for (; at && d[j] < d[near[at - 1]]; at--) near[at] = near[at - 1];
        near[at] = (uint32_t)j;
    }
}

static double density_of(const real *patches, size_t P, size_t D, size_t i, size_t k, double *d, uint32_t *near) {
    for (size_t j = 0; j < P; j++) d[j] = distance2(patches + i * D, patches + j * D, D);
    nearest(d, P, i, k, near);
    return (double)k / d[near[k - 1]];
}

/* Scores [P] -> which are above their .95 quantile, interpolated at .95 (P-1). sorted [P] is scratch. */
static void above_quantile(const double *score, double *sorted, size_t P, bool *outlier) {
    for (size_t i = 0; i < P; i++) {
        size_t at = i;
        for (; at && score[i] < sorted[at - 1]; at--) sorted[at] = sorted[at - 1];
        sorted[at] = score[i];
    }
    double rank = .95 * (double)(P - 1);
    size_t low = (size_t)rank, high = low + 1 < P ? low + 1 : P - 1;
    double limit = sorted[low] + (rank - (double)low) * (sorted[high] - sorted[low]);
    for (size_t i = 0; i < P; i++) outlier[i] = score[i] > limit;
}

bool method_outliers(const real *patches, size_t P, size_t D, double *scores, bool *outlier, arena *memory, fault *f) {
    enum { MOST = 30 };
    size_t k = MOST < (P - 1) / 2 ? MOST : (P - 1) / 2, mark = arena_mark(memory);
    double *d = arena_alloc(memory, P, sizeof *d), *density = arena_alloc(memory, P, sizeof *density);
    double *score = arena_alloc(memory, P, 2 * sizeof *score);
    uint32_t *near = arena_alloc(memory, P * (k + 1), sizeof *near);
    memset(outlier, 0, P * sizeof *outlier);
    if (!d || !density || !score || !near) {
        arena_reset(memory, mark);
        return fault_memory(f, "LOF", memory, P * k * sizeof *near);
    }
    for (size_t i = 0; i < P && k; i++) density[i] = density_of(patches, P, D, i, k, d, near + i * k);
    for (size_t i = 0; i < P && k; i++) {
        double sum = 0;
        for (size_t j = 0; j < k; j++) sum += density[near[i * k + j]];
        score[i] = sum / (double)k / density[i];
    }
    if (k) above_quantile(score, score + P, P, outlier);
    if (scores && k) memcpy(scores, score, P * sizeof *scores);
    arena_reset(memory, mark);
    return true;
}

/* (6.25)  An outlier becomes the mean of its up to 8 neighbours that are none, from the values before. in -> out [P,D] */
static void repair(const explainer *x, const real *in, const bool *outlier, real *out) {
    size_t D = x->model->config.vision.width, P = x->gh * x->gw;
    memcpy(out, in, P * D * sizeof *in);
    for (size_t i = 0; i < P; i++) {
        size_t y = i / x->gw, q = i % x->gw, found = 0;
        if (!outlier[i]) continue;
        real *row = out + i * D;
        memset(row, 0, D * sizeof *row);
        for (size_t a = y ? y - 1 : 0; a <= y + 1 && a < x->gh; a++)
            for (size_t b = q ? q - 1 : 0; b <= q + 1 && b < x->gw; b++)
                if (!outlier[a * x->gw + b]) k_axpy(1, in + (a * x->gw + b) * D, row, D), found++;
        for (size_t c = 0; c < D && found; c++) row[c] /= (real)found;
        if (!found) memcpy(row, in + i * D, D * sizeof *row);
    }
}

/* Cosines [P,P] of the patches [P,D]; unit rows in scratch [P,D]. */
static void alike(const explainer *x, const real *patches, real *scratch, real *S) {
    size_t D = x->model->config.vision.width, P = x->gh * x->gw;
    for (size_t i = 0; i < P; i++) {
        real length = (real)sqrt((double)k_dot(patches + i * D, patches + i * D, D));
        for (size_t c = 0; c < D; c++) scratch[i * D + c] = patches[i * D + c] / length;
    }
    gemm_spread(x->cores, NO_T, T, P, P, D, 1, scratch, D, scratch, D, 0, S, P);
}

/* (6.26)  agg(t, S): entries of S below .4 are 0, rows over (sum + 1e-6), times t. weights [P,P] scratch; out [P,D] */
static void gather(const explainer *x, const real *t, const real *S, real *weights, real *out) {
    size_t D = x->model->config.vision.width, P = x->gh * x->gw;
    for (size_t i = 0; i < P; i++) {
        double sum = 0;
        for (size_t j = 0; j < P; j++) sum += weights[i * P + j] = S[i * P + j] < (real).4 ? 0 : S[i * P + j];
        for (size_t j = 0; j < P; j++) weights[i * P + j] = (real)((double)weights[i * P + j] / (sum + 1e-6));
    }
    gemm_spread(x->cores, NO_T, NO_T, P, D, P, 1, weights, P, t, D, 0, out, D);
}

/* (6.27)  A_M: softmax over j of 3 (M - mean of all of M), negative entries left out. [P,P] */
static void middle_attention(const real *M, size_t P, real *A) {
    double mean = 0;
    for (size_t i = 0; i < P * P; i++) mean += (double)M[i];
    mean /= (double)(P * P);
    for (size_t i = 0; i < P; i++) {
        double most = 0, sum = 0; /* the diagonal is there: nothing is empty */
        for (size_t j = 0; j < P; j++) if (3 * ((double)M[i * P + j] - mean) > most) most = 3 * ((double)M[i * P + j] - mean);
        for (size_t j = 0; j < P; j++) {
            double v = 3 * ((double)M[i * P + j] - mean);
            sum += A[i * P + j] = v < 0 ? 0 : (real)exp(v - most);
        }
        for (size_t j = 0; j < P; j++) A[i * P + j] = (real)((double)A[i * P + j] / sum);
    }
}

/* (6.27)  last(t, c) = W_o ((A_M + softmax Z(k,k))/2) v + b_o + .3 c: patches only. t, out [B,P,D]; A_M [B,P,P]; class tokens are the
 * first rows of tokens [B,n,D] */
static bool last_block(explainer *x, real *t, const real *tokens, const real *A_M, real *out) {
    size_t D = x->model->config.vision.width, P = x->gh * x->gw, H = x->model->config.vision.heads, B = x->batch;
    ag_tape *tape = &x->tape;
    ag_mark mark = ag_tape_mark(tape);
    size_t first = x->run.first;
    x->run.first = 0; /* no class token among them: every row turns with its place (1.20) */
    head_inputs in = method_inputs(x, &x->model->blocks[x->model->config.vision.layers - 1], ag_constant(tape, t, B, P, D));
    x->run.first = first;
    ag_tensor *A = in.k ? method_self_attention(&in, in.k) : NULL;
    for (size_t h = 0; A && h < B * H; h++)
        for (size_t i = 0; i < P * P; i++) A->data[h * P * P + i] = (A->data[h * P * P + i] + A_M[h / H * P * P + i]) / 2;
    ag_tensor *y = A ? clip_merge(tape, &x->run, in.w, ag_mix(tape, A, NO_T, in.v, H, 1), NULL) : NULL;
    for (size_t i = 0; y && i < B * P; i++) {
        memcpy(out + i * D, y->data + i * D, D * sizeof(real));
        k_axpy((real).3, tokens + i / P * x->n * D, out + i * D, D);
    }
    ag_tape_reset(tape, mark);
    return y != NULL;
}

/* N, A_M [B,P,P], t, y [B,P,D]; M, weights [P,P] and scratch [P,D] of one picture at a time; outlier [B,P] */
typedef struct { real *M, *N, *A, *weights, *scratch, *t, *y; bool *outlier; } scclip_room;

/* (6.28)  Both passes through the last block, their sum u in sum [B,n,D], each picture's row 0 left as it is. */
static bool two_passes(explainer *x, const real *last, const levels *l, scclip_room *r, real *sum) {
    size_t D = x->model->config.vision.width, P = x->gh * x->gw, all = x->n * D;
    for (size_t b = 0; b < x->batch; b++) {
        const bool *outlier = r->outlier + b * P;
        real *t = r->t + b * P * D;
        repair(x, l->middle + b * all + D, outlier, t);
        alike(x, t, r->scratch, r->M);
        alike(x, l->low + b * all + D, r->scratch, r->N + b * P * P);
        middle_attention(r->M, P, r->A + b * P * P);
        repair(x, last + b * all + D, outlier, r->scratch);
        gather(x, r->scratch, r->M, r->weights, t);
    }
    if (!last_block(x, r->t, last, r->A, r->y)) return false;
    for (size_t b = 0; b < x->batch; b++) {
        gather(x, r->y + b * P * D, r->N + b * P * P, r->weights, sum + b * all + D);
        memcpy(r->t + b * P * D, l->total + b * all + D, P * D * sizeof(real));
    }
    if (!last_block(x, r->t, l->total, r->A, r->y)) return false;
    for (size_t b = 0; b < x->batch; b++) {
        gather(x, r->y + b * P * D, r->N + b * P * P, r->weights, r->scratch);
        k_axpy(1, r->scratch, sum + b * all + D, P * D);
    }
    return true;
}

static bool scclip_rooms(explainer *x, levels *l, scclip_room *r) {
    size_t L = x->model->config.vision.layers, D = x->model->config.vision.width, P = x->gh * x->gw, B = x->batch;
    *l = (levels){.middle = take(x, B * x->n, D), .low = take(x, B * x->n, D), .total = take(x, B * x->n, D),
                  .middle_at = at_depth(9, L), .low_at = at_depth(4, L), .from = at_depth(4, L), .to = at_depth(10, L)};
    *r = (scclip_room){.M = take(x, P, P), .N = take(x, B * P, P), .A = take(x, B * P, P), .weights = take(x, P, P),
                       .scratch = take(x, P, D), .t = take(x, B * P, D), .y = take(x, B * P, D),
                       .outlier = arena_alloc(x->memory, B * P, sizeof *r->outlier)};
    if (!r->outlier) fault_memory(&x->tape.fault, "LOF", x->memory, B * P);
    return x->tape.fault.code == FAULT_NONE;
}

bool method_open_scclip(explainer *x, ag_tensor *patches, const real *pixels) {
    const clip_model *m = x->model;
    size_t D = m->config.vision.width, E = m->config.embed, P = x->gh * x->gw, all = x->n * D;
    levels l;
    scclip_room r;
    (void)pixels;
    if (!fits(x)) return false;
    ag_tensor *kept = ag_new(&x->tape, x->batch, x->n, E);
    ag_mark mark = ag_tape_mark(&x->tape);
    ag_tensor *tokens = clip_embed(&x->tape, m, patches, x->gh, x->gw, x->how->position);
    real *sum = take(x, x->batch, all);
    if (!scclip_rooms(x, &l, &r) || !kept || !tokens || !sum) return false;
    memset(l.total, 0, x->batch * all * sizeof(real));
    if (!walk(x, tokens, NULL, 0, keep_levels, &l)) return false;
    for (size_t b = 0; b < x->batch; b++) {
        if (!method_outliers(tokens->data + b * all + D, P, D, NULL, r.outlier + b * P, x->memory, &x->tape.fault)) return false;
        memcpy(sum + b * all, tokens->data + b * all, D * sizeof(real)); /* row 0 stands in for the class token that this method has not */
    }
    if (!two_passes(x, tokens->data, &l, &r, sum)) return false;
    ag_tensor *out = clip_project(&x->tape, m, ag_constant(&x->tape, sum, x->batch, x->n, D));
    if (!out) return false;
    memcpy(kept->data, out->data, ag_size(kept) * sizeof(real));
    x->tokens = kept->data;
    ag_tape_reset(&x->tape, mark);
    return true;
}

/* ==== ResCLIP ============================================================================================== */
struct method_kept { /* what the second pass needs, which waits for the texts */
    ag_tensor *last; /* [B,n,D] x_{L-1} */
    real *A_c;       /* [B H,n,n] mean attention of the middle blocks (6.21) */
    const real *pixels; /* [B,3,height,width] */
    size_t blocks[4], count;
};

static void add_attention(explainer *x, void *arg, size_t b, const real *out, const ag_tensor *A) {
    method_kept *k = arg;
    (void)x, (void)b, (void)out;
    if (A) k_axpy(1 / (real)k->count, A->data, k->A_c, ag_size(A));
}

bool method_open_resclip(explainer *x, ag_tensor *patches, const real *pixels) {
    const clip_model *m = x->model;
    size_t L = m->config.vision.layers, all = x->batch * m->config.vision.heads * x->n;
    if (!fits(x)) return false;
    method_kept *k = x->kept = arena_alloc(x->memory, 1, sizeof *k);
    if (!k) return fault_memory(&x->tape.fault, "ResCLIP", x->memory, sizeof *k);
    *k = (method_kept){.pixels = pixels};
    for (size_t b = 6; b <= 9; b++) /* each once */
        if (!k->count || k->blocks[k->count - 1] != at_depth(b, L)) k->blocks[k->count++] = at_depth(b, L);
    k->A_c = take(x, all, x->n);
    k->last = clip_embed(&x->tape, m, patches, x->gh, x->gw, x->how->position);
    if (!k->A_c || !k->last) return false;
    memset(k->A_c, 0, all * x->n * sizeof(real));
    return walk(x, k->last, k->blocks, k->count, add_attention, k);
}

/* (6.24)  z [B H,n,n] <- tau_s ((1 - lambda_s) z + lambda_s S), S [B,n,n] */
static void blend_labels(explainer *x, const real *S, real *z) {
    size_t H = x->model->config.vision.heads, all = x->n * x->n;
    real of_z = x->settings.tau_s * (1 - x->settings.lambda_s), of_S = x->settings.tau_s * x->settings.lambda_s;
    for (size_t h = 0; h < x->batch * H; h++, z += all) {
        const real *s = S + h / H * all;
#pragma omp simd
        for (size_t i = 0; i < all; i++) z[i] = of_z * z[i] + of_S * s[i];
    }
}

/* (6.21), and (6.24) where there is S [B,n,n]: one pass through the last block. Projected tokens [B,n,E], which x->tokens then
 * points to. */
static bool resclip_pass(explainer *x, const real *S, real *tokens) {
    const method_settings *o = &x->settings;
    const method_kept *k = x->kept;
    const clip_model *m = x->model;
    size_t n = x->n, H = m->config.vision.heads, all = x->batch * H * n * n;
    ag_tape *t = &x->tape;
    ag_mark mark = ag_tape_mark(t);
    head_inputs in = method_inputs(x, &m->blocks[m->config.vision.layers - 1], k->last);
    bool sclip = o->base == BASE_SCLIP, near = o->base == BASE_NACLIP;
    ag_tensor *A = NULL, *omega = near ? method_neighbourhood(&in) : NULL;
    ag_tensor *sides[2] = {near ? in.k : in.q, sclip ? in.k : NULL};
    for (int s = 0; s < 2 && sides[s] && !t->fault.code; s++) {
        ag_tensor *z = ag_scores(t, sides[s], sides[s], H, in.factor);
        if (z && S) blend_labels(x, S, z->data);
        z = ag_softmax(t, omega ? ag_add(t, z, omega) : z, false);
        A = A ? ag_add(t, A, z) : z;
    }
    for (size_t i = 0; A && i < all; i++) /* (6.21)  A <- tau_r ((1 - lambda_r) A + lambda_r A_c) */
        A->data[i] = o->tau_r * ((1 - o->lambda_r) * A->data[i] + o->lambda_r * k->A_c[i]);
    ag_tensor *y = A ? clip_merge(t, &x->run, in.w, ag_mix(t, A, NO_T, in.v, H, 1), NULL) : NULL;
    if (y && sclip) {
        y = ag_add(t, k->last, y);
        y = ag_add(t, y, clip_mlp(t, &x->run, in.w, y, NULL));
    }
    ag_tensor *out = y ? clip_project(t, m, y) : NULL;
    if (out) memcpy(tokens, out->data, ag_size(out) * sizeof(real));
    ag_tape_reset(t, mark);
    x->tokens = tokens;
    return out != NULL;
}

/* ---- SFR: labels of patches, and which of them belong together -------------------------------------------------- */
/* A picture's pixels while the texts' maps come by: the largest so far, whose it is, sum exp(40 map). Maps are means of
 * cosines, and e^40 is a float. */
typedef struct {
    explainer *x;
    const real *grids;       /* [Q,P] */
    real *wide;              /* [together,gh,width] those in hand, columns enlarged */
    lerp down, across;
    pamr refine;
    size_t first, count, Q;  /* texts side by side in hand; all of them */
    real *best, *sum, *scratch; /* [height,width] */
    uint32_t *text;             /* [height,width] */
    uint32_t *counts, *label;   /* [gh,Q]; [P] */
} labelling;
enum { BAND = 16 };

static void enlarge_columns(void *arg, size_t m) {
    const labelling *l = arg;
    size_t gh = l->x->gh, w = l->refine.w;
    lerp_across(&l->across, l->grids + (l->first + m) * gh * l->x->gw, gh, l->wide + m * gh * w);
}

static void enlarge_rows(void *arg, size_t band) {
    const labelling *l = arg;
    size_t w = l->refine.w;
    for (size_t m = 0; m < l->count; m++)
        for (size_t y = band * BAND; y < l->refine.h && y < (band + 1) * BAND; y++)
            lerp_row(&l->down, l->wide + m * l->x->gh * w, w, y, pamr_row(&l->refine, m, y));
}

static void meet_rows(void *arg, size_t band) {
    const labelling *l = arg;
    size_t w = l->refine.w;
    for (size_t y = band * BAND; y < l->refine.h && y < (band + 1) * BAND; y++) {
        real *best = l->best + y * w, *sum = l->sum + y * w, *scratch = l->scratch + y * w;
        uint32_t *text = l->text + y * w;
        for (size_t m = 0; m < l->count; m++) {
            const real *map = pamr_row(&l->refine, m, y);
            uint32_t q = (uint32_t)(l->first + m);
            for (size_t i = 0; i < w; i++) scratch[i] = 40 * map[i];
            k_exp(scratch, scratch, w);
            for (size_t i = 0; i < w; i++) {
                bool wins = q == 0 || map[i] > best[i];
                sum[i] = q ? sum[i] + scratch[i] : scratch[i];
                best[i] = wins ? map[i] : best[i];
                text[i] = wins ? q : text[i];
            }
        }
    }
}

/* A row of patches: each one's commonest label (ties: smallest); a pixel whose largest softmax is < temp_thd counts for 0. */
static void label_patches(void *arg, size_t row) {
    const labelling *l = arg;
    size_t p = l->x->model->config.patch, w = l->refine.w, gw = l->x->gw;
    uint32_t *counts = l->counts + row * l->Q;
    for (size_t y = row * p; y < (row + 1) * p; y++) {
        real *scratch = l->scratch + y * w;
        for (size_t i = 0; i < w; i++) scratch[i] = 40 * l->best[y * w + i];
        k_exp(scratch, scratch, w);
        for (size_t i = 0; i < w; i++)
            if (scratch[i] < l->x->settings.temp_thd * l->sum[y * w + i]) l->text[y * w + i] = 0;
    }
    for (size_t cell = 0; cell < gw; cell++) {
        uint32_t *label = l->label + row * gw + cell;
        memset(counts, 0, l->Q * sizeof *counts);
        for (size_t i = 0; i < p * p; i++) counts[l->text[(row * p + i / p) * w + cell * p + i % p]]++;
        *label = 0;
        for (uint32_t q = 1; q < l->Q; q++)
            if (counts[q] > counts[*label]) *label = q;
    }
}

/* round(((most - k) a + k b) / most), half to even, in integers */
static size_t between(size_t a, size_t b, size_t k, size_t most) {
    size_t number = a * (most - k) + b * k, q = number / most, r = number % most;
    return q + (2 * r > most || (2 * r == most && q % 2 == 1));
}

/* The way from i to j, as far as the code looks (k = 0..s_ij in steps of 1/most), has i's label. */
static bool clear_way(const explainer *x, const uint32_t *label, size_t i, size_t j, size_t steps, size_t most) {
    for (size_t k = 0; k <= steps; k++) {
        size_t y = between(i / x->gw, j / x->gw, k, most), q = between(i % x->gw, j % x->gw, k, most);
        if (label[y * x->gw + q] != label[i]) return false;
    }
    return true;
}

static size_t apart(size_t a, size_t b) { return a > b ? a - b : b - a; }

/* (6.23)  Row i of S, [P], before it is smoothed: 1 where j has i's label, exp(-s/m) where the way there is not clear. */
static void same_label(const explainer *x, const uint32_t *label, size_t i, real *row) {
    size_t P = x->gh * x->gw, most = (x->gh > x->gw ? x->gh : x->gw) - 1;
    for (size_t j = 0; j < P; j++) {
        size_t dy = apart(i / x->gw, j / x->gw), dx = apart(i % x->gw, j % x->gw), s = dy > dx ? dy : dx;
        row[j] = label[i] == label[j];
        if (row[j] > 0 && most && !clear_way(x, label, i, j, s, most)) row[j] = (real)exp(-(double)s / (double)most);
    }
}

/* (6.23)  Gaussian of sigma 5 along the flattened row, length min(P, 31) made odd, zeros beyond; then the row sums to 1. */
static void smooth(const real *row, size_t P, real *out) {
    size_t size = P < 31 ? P : 31, r = (size + (size % 2 == 0)) / 2;
    double kernel[33], all = 0, sum = 0;
    size += size % 2 == 0;
    for (size_t i = 0; i < size; i++) all += kernel[i] = exp(-((double)i - (double)r) * ((double)i - (double)r) / 50);
    for (size_t j = 0; j < P; j++) {
        double v = 0;
        for (size_t i = 0; i < size; i++)
            if (j + i >= r && j + i - r < P) v += kernel[i] / all * (double)row[j + i - r];
        out[j] = (real)v;
        sum += v;
    }
    for (size_t j = 0; j < P; j++) out[j] = (real)((double)out[j] / (sum + 1e-8));
}

/* (6.23)  S [n,n]: smoothed rows, the class token's row and column 0, over its largest. */
static void label_matrix(const explainer *x, const uint32_t *label, real *row, real *S) {
    size_t n = x->n, P = n - 1;
    real most = 0;
    memset(S, 0, n * n * sizeof *S);
    for (size_t i = 0; i < P; i++) {
        real *out = S + (1 + i) * n + 1;
        same_label(x, label, i, row);
        smooth(row, P, out);
        for (size_t j = 0; j < P; j++) most = out[j] > most ? out[j] : most;
    }
    for (size_t i = 0; i < n * n; i++) S[i] /= most;
}

/* (6.22)  Texts' grids, enlarged and refined -> a label a patch. */
static bool labels_of(labelling *l, const real *pixels) {
    static const size_t dilations[] = {8, 16};
    explainer *x = l->x;
    size_t mark = arena_mark(x->memory), bands = (x->height + BAND - 1) / BAND;
    fault *f = &x->tape.fault;
    bool ok = lerp_make(&l->down, x->gh, x->height, x->memory, f) && lerp_make(&l->across, x->gw, x->width, x->memory, f) &&
              pamr_open(&l->refine, pixels, 3, x->height, x->width, dilations, 2, l->Q, x->memory, x->cores, f) &&
              (l->wide = take(x, l->refine.together * x->gh, x->width));
    for (l->first = 0; ok && l->first < l->Q; l->first += l->count) {
        l->count = l->Q - l->first < l->refine.together ? l->Q - l->first : l->refine.together;
        spread(x->cores, l->count, enlarge_columns, l);
        spread(x->cores, bands, enlarge_rows, l);
        pamr_run(&l->refine, l->count, 10);
        spread(x->cores, bands, meet_rows, l);
    }
    if (ok) spread(x->cores, x->gh, label_patches, l);
    arena_reset(x->memory, mark);
    return ok;
}

bool method_resclip_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids) {
    const method_kept *k = x->kept;
    size_t n = x->n, P = n - 1, plane = x->height * x->width, mark = arena_mark(x->memory);
    real *tokens = take(x, x->batch * n, x->model->config.embed), *S = take(x, x->batch * n, n), *row = take(x, 1, n);
    labelling l = {.x = x, .Q = count, .best = take(x, 3, plane), .text = arena_alloc(x->memory, plane, sizeof *l.text),
                   .counts = arena_alloc(x->memory, P + x->gh * count, sizeof *l.counts)};
    bool ok = tokens && S && row && l.best && ((l.text && l.counts) || fault_memory(&x->tape.fault, "ResCLIP", x->memory, plane * 4)) &&
              resclip_pass(x, NULL, tokens) && method_cosine_grids(x, texts, count, empty, grids);
    for (size_t b = 0; ok && b < x->batch; b++) {
        l.sum = l.best + plane, l.scratch = l.sum + plane, l.label = l.counts + x->gh * count, l.grids = grids + b * count * P;
        if ((ok = labels_of(&l, k->pixels + 3 * b * plane))) label_matrix(x, l.label, row, S + b * n * n);
    }
    ok = ok && resclip_pass(x, S, tokens) && method_cosine_grids(x, texts, count, empty, grids);
    x->tokens = NULL;
    arena_reset(x->memory, mark);
    return ok;
}
