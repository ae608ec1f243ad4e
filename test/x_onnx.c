/* x_onnx.c - see x_onnx.h. ONNX is a protobuf message (onnx.proto): fields of a number and a wire type, 0 a whole number in
 * groups of seven bits, 2 bytes with their count before them, 5 a float. */
#include "x_onnx.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "files/files.h"

/* ---- protobuf ------------------------------------------------------------------------------------------------------- */
typedef struct {
    unsigned char *data;
    size_t count, room;
    bool full;
} message;

static void put_bytes(message *m, const void *p, size_t n) {
    if (m->full || !mem_grow(&m->data, &m->room, m->count + n, 1)) {
        m->full = true;
        return;
    }
    if (n) memcpy(m->data + m->count, p, n);
    m->count += n;
}

static void put_varint(message *m, uint64_t v) {
    for (; v >= 128; v >>= 7) put_bytes(m, &(unsigned char){(unsigned char)(v | 128)}, 1);
    put_bytes(m, &(unsigned char){(unsigned char)v}, 1);
}

static void put_int(message *m, unsigned field, uint64_t v) { put_varint(m, field << 3), put_varint(m, v); }
static void put_block(message *m, unsigned field, const void *p, size_t n) {
    put_varint(m, field << 3 | 2), put_varint(m, n), put_bytes(m, p, n);
}
static void put_text(message *m, unsigned field, const char *text) { put_block(m, field, text, strlen(text)); }
static void put_float(message *m, unsigned field, float v) {
    order_bytes(&v, 1, sizeof v);
    put_varint(m, field << 3 | 5), put_bytes(m, &v, sizeof v);
}
/* The inner message is used up. */
static void put_message(message *m, unsigned field, message *inner) {
    put_block(m, field, inner->data, inner->count);
    m->full |= inner->full;
    mem_free(inner->data);
    *inner = (message){0};
}

/* ---- onnx.proto: its fields ------------------------------------------------------------------------------------------ */
enum { MODEL_IR = 1, MODEL_GRAPH = 7, MODEL_OPSET = 8 };
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_TENSOR = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_OP = 4, NODE_ATTRIBUTE = 5 };
enum { ATTRIBUTE_NAME = 1, ATTRIBUTE_FLOAT = 2, ATTRIBUTE_INT = 3, ATTRIBUTE_INTS = 8, ATTRIBUTE_TYPE = 20 };
enum { IS_FLOAT = 1, IS_INT = 2, IS_INTS = 7 };
enum { TENSOR_DIM = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9, TENSOR_ELSEWHERE = 13, TENSOR_PLACE = 14 };
enum { TYPE_FLOAT = 1, TYPE_INT64 = 7, PLACE_EXTERNAL = 1, IR_VERSION = 8, OPSET = 17 };

/* ---- the file being made ---------------------------------------------------------------------------------------------- */
typedef struct { char name[24]; } value; /* a tensor's name in the graph */
typedef struct {
    message graph;
    const char *weights; /* the name of their file, as the graph has it */
    FILE *out;           /* NULL: it is there already */
    uint64_t at;         /* bytes of it */
    size_t values, batch, n, D, H;
    bool failed;
} onnx;

static value new_value(onnx *o) {
    value v;
    snprintf(v.name, sizeof v.name, "v%zu", o->values++);
    return v;
}

static void entry(message *tensor, const char *key, uint64_t number, const char *text) { /* of where the bytes lie */
    message m = {0};
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    put_text(&m, 1, key);
    put_text(&m, 2, text ? text : digits);
    put_message(tensor, TENSOR_ELSEWHERE, &m);
}

static message begin_tensor(onnx *o, int type, const size_t *dims, size_t rank, value *v) {
    message m = {0};
    *v = new_value(o);
    for (size_t i = 0; i < rank; i++) put_int(&m, TENSOR_DIM, dims[i]);
    put_int(&m, TENSOR_TYPE, (uint64_t)type);
    put_text(&m, TENSOR_NAME, v->name);
    return m;
}

/* Numbers inside the graph. */
static value constant(onnx *o, const float *x, const size_t *dims, size_t rank) {
    value v;
    size_t count = 1;
    message m = begin_tensor(o, TYPE_FLOAT, dims, rank, &v);
    for (size_t i = 0; i < rank; i++) count *= dims[i];
    put_block(&m, TENSOR_RAW, x, count * sizeof *x);
    if (BIG_ENDIAN_HERE && !m.full) order_bytes(m.data + m.count - count * sizeof *x, count, sizeof *x);
    put_message(&o->graph, GRAPH_TENSOR, &m);
    return v;
}

static value shape_of(onnx *o, const size_t *dims, size_t rank) {
    value v;
    int64_t x[8] = {0};
    message m = begin_tensor(o, TYPE_INT64, &rank, 1, &v);
    for (size_t i = 0; i < rank; i++) x[i] = (int64_t)dims[i];
    order_bytes(x, rank, sizeof *x);
    put_block(&m, TENSOR_RAW, x, rank * sizeof *x);
    put_message(&o->graph, GRAPH_TENSOR, &m);
    return v;
}

/* A weight [rows,cols] as float32 in the file beside; turned: [cols,rows], as MatMul reads it. */
static value weight_as(onnx *o, const clip_weight *w, bool turned, const size_t *dims, size_t rank) {
    value v;
    size_t count = w->rows * w->cols, bytes = count * sizeof(float);
    message m = begin_tensor(o, TYPE_FLOAT, dims, rank, &v);
    entry(&m, "location", 0, o->weights), entry(&m, "offset", o->at, NULL), entry(&m, "length", bytes, NULL);
    put_int(&m, TENSOR_PLACE, PLACE_EXTERNAL);
    put_message(&o->graph, GRAPH_TENSOR, &m);
    o->at += bytes;
    if (!o->out) return v;
    real *x = mem_alloc(count, sizeof *x);
    float *y = mem_alloc(count, sizeof *y);
    if (x && y) {
        clip_numbers(w, 0, count, x);
        for (size_t r = 0; r < w->rows; r++)
            for (size_t c = 0; c < w->cols; c++) y[turned ? c * w->rows + r : r * w->cols + c] = (float)x[r * w->cols + c];
        order_bytes(y, count, sizeof *y);
        fwrite(y, sizeof *y, count, o->out);
    }
    o->failed |= !x || !y;
    mem_free(x), mem_free(y);
    return v;
}
static value row(onnx *o, const clip_weight *w) { return weight_as(o, w, false, &w->cols, 1); }
static value matrix(onnx *o, const clip_weight *w) { /* W^T */
    return weight_as(o, w, !w->transposed, (size_t[]){w->cols, w->rows}, 2);
}

/* ---- nodes ------------------------------------------------------------------------------------------------------------ */
static message attribute(const char *name, int type) {
    message m = {0};
    put_text(&m, ATTRIBUTE_NAME, name);
    put_int(&m, ATTRIBUTE_TYPE, (uint64_t)type);
    return m;
}
static void say_int(message *attributes, const char *name, int64_t v) {
    message m = attribute(name, IS_INT);
    put_int(&m, ATTRIBUTE_INT, (uint64_t)v);
    put_message(attributes, NODE_ATTRIBUTE, &m);
}
static void say_ints(message *attributes, const char *name, const size_t *v, size_t count) {
    message m = attribute(name, IS_INTS);
    for (size_t i = 0; i < count; i++) put_int(&m, ATTRIBUTE_INTS, v[i]);
    put_message(attributes, NODE_ATTRIBUTE, &m);
}
static void say_float(message *attributes, const char *name, float v) {
    message m = attribute(name, IS_FLOAT);
    put_float(&m, ATTRIBUTE_FLOAT, v);
    put_message(attributes, NODE_ATTRIBUTE, &m);
}

/* attributes is used up; NULL: none */
static value node(onnx *o, const char *op, const value *in, size_t count, message *attributes) {
    value out = new_value(o);
    message m = {0};
    for (size_t i = 0; i < count; i++) put_text(&m, NODE_INPUT, in[i].name);
    put_text(&m, NODE_OUTPUT, out.name);
    put_text(&m, NODE_OP, op);
    if (attributes) {
        put_bytes(&m, attributes->data, attributes->count);
        m.full |= attributes->full;
        mem_free(attributes->data);
    }
    put_message(&o->graph, GRAPH_NODE, &m);
    return out;
}
static value two(onnx *o, const char *op, value a, value b) { return node(o, op, (value[]){a, b}, 2, NULL); }
static value turn(onnx *o, value x, const size_t *order, size_t rank) {
    message a = {0};
    say_ints(&a, "perm", order, rank);
    return node(o, "Transpose", &x, 1, &a);
}
static value reshape(onnx *o, value x, const size_t *dims, size_t rank) { return two(o, "Reshape", x, shape_of(o, dims, rank)); }

/* ---- the image side (MODEL.md 1) ---------------------------------------------------------------------------------------- */
static value norm(onnx *o, value x, const clip_weight *gamma, const clip_weight *beta, real eps) {
    message a = {0};
    say_int(&a, "axis", -1), say_float(&a, "epsilon", (float)eps);
    return node(o, "LayerNormalization", (value[]){x, row(o, gamma), row(o, beta)}, 3, &a);
}
static value linear(onnx *o, value x, const clip_weight *w, const clip_weight *bias) {
    return two(o, "Add", two(o, "MatMul", x, matrix(o, w)), row(o, bias));
}
static value heads(onnx *o, value x, bool turned) { /* [B,n,D] -> [B,H,n,d], of the keys [B,H,d,n] */
    static const size_t rows_last[] = {0, 2, 3, 1}, columns_last[] = {0, 2, 1, 3};
    return turn(o, reshape(o, x, (size_t[]){o->batch, o->n, o->H, o->D / o->H}, 4), turned ? rows_last : columns_last, 4);
}

static value attention(onnx *o, value x, const clip_block_weights *w) {
    float factor = (float)(1 / sqrt((double)(o->D / o->H)));
    value q = heads(o, linear(o, x, &w->q, &w->q_bias), false), k = heads(o, linear(o, x, &w->k, &w->k_bias), true);
    value v = heads(o, linear(o, x, &w->v, &w->v_bias), false), A;
    message a = {0};
    say_int(&a, "axis", -1);
    A = two(o, "MatMul", two(o, "Mul", q, constant(o, &factor, NULL, 0)), k);
    A = node(o, "Softmax", &A, 1, &a);
    x = turn(o, two(o, "MatMul", A, v), (size_t[]){0, 2, 1, 3}, 4);
    return linear(o, reshape(o, x, (size_t[]){o->batch, o->n, o->D}, 3), &w->out, &w->out_bias);
}

static value block(onnx *o, value x, const clip_block_weights *w, real eps) {
    const float slope = 1.702f;
    x = two(o, "Add", x, attention(o, norm(o, x, &w->ln1_gamma, &w->ln1_beta, eps), w));
    value h = linear(o, norm(o, x, &w->ln2_gamma, &w->ln2_beta, eps), &w->fc1, &w->fc1_bias);
    value s = two(o, "Mul", h, constant(o, &slope, NULL, 0));
    h = two(o, "Mul", h, node(o, "Sigmoid", &s, 1, NULL));
    return two(o, "Add", x, linear(o, h, &w->fc2, &w->fc2_bias));
}

/* The class token's row for each picture, and the position embedding, resized as the program does it. */
static bool own_rows(onnx *o, const clip_model *m, size_t g, value *first, value *position, err *e) {
    size_t D = o->D, room = (o->n + 3000) * D * 16 + ((size_t)1 << 20);
    void *memory = mem_reserve(room);
    real *class = mem_alloc(o->batch, D * sizeof *class);
    arena a;
    ag_tape t = {0};
    ag_tensor *p = NULL;
    if (memory && class) {
        arena_init(&a, memory, room);
        ag_tape_init(&t, &a, NULL, 1);
        t.recording = false;
        p = clip_position(&t, m, g, g, POSITION_BICUBIC);
        for (size_t b = 0; b < o->batch; b++) clip_numbers(&m->class_token, 0, D, class + b * D);
        *first = constant(o, (const float *)class, (size_t[]){o->batch, 1, D}, 3);
        if (p) *position = constant(o, (const float *)p->data, (size_t[]){1, o->n, D}, 3);
    }
    mem_free(class);
    if (memory) mem_release(memory, room);
    return p ? true : err_set(e, "no memory for the positions");
}

static bool image_side(onnx *o, const clip_model *m, value x, size_t side, value *z, err *e) {
    const clip_config *c = &m->config;
    size_t p = c->patch, g = side / p;
    value first, position;
    message a = {0}, b = {0}, gather = {0};
    if (!own_rows(o, m, g, &first, &position, e)) return false;
    say_ints(&a, "kernel_shape", (size_t[]){p, p}, 2), say_ints(&a, "strides", (size_t[]){p, p}, 2);
    x = node(o, "Conv", (value[]){x, weight_as(o, &m->patch, false, (size_t[]){o->D, 3, p, p}, 4)}, 2, &a);
    x = turn(o, reshape(o, x, (size_t[]){o->batch, o->D, g * g}, 3), (size_t[]){0, 2, 1}, 3);
    say_int(&b, "axis", 1);
    x = two(o, "Add", node(o, "Concat", (value[]){first, x}, 2, &b), position);
    x = norm(o, x, &m->pre_gamma, &m->pre_beta, c->vision.eps);
    for (size_t i = 0; i < c->vision.layers; i++) x = block(o, x, &m->blocks[i], c->vision.eps);
    say_int(&gather, "axis", 1);
    x = node(o, "Gather", (value[]){x, shape_of(o, (size_t[]){0}, 1)}, 2, &gather);
    x = norm(o, reshape(o, x, (size_t[]){o->batch, o->D}, 2), &m->post_gamma, &m->post_beta, c->vision.eps);
    *z = two(o, "MatMul", x, matrix(o, &m->proj));
    return true;
}

/* ---- the file ------------------------------------------------------------------------------------------------------------ */
static void declare(onnx *o, unsigned field, const value *v, const size_t *dims, size_t rank) { /* what goes in or out */
    message shape = {0}, tensor = {0}, type = {0}, m = {0};
    for (size_t i = 0; i < rank; i++) {
        message dim = {0};
        put_int(&dim, 1, dims[i]);
        put_message(&shape, 1, &dim);
    }
    put_int(&tensor, 1, TYPE_FLOAT);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_text(&m, 1, v->name);
    put_message(&m, 2, &type);
    put_message(&o->graph, field, &m);
}

static bool write_model(const char *path, onnx *o, err *e) {
    message m = {0}, opset = {0};
    out_file f;
    put_int(&m, MODEL_IR, IR_VERSION);
    put_text(&opset, 1, ""), put_int(&opset, 2, OPSET);
    put_message(&m, MODEL_OPSET, &opset);
    put_message(&m, MODEL_GRAPH, &o->graph);
    bool ok = (!m.full && !o->failed) || err_set(e, "%s: no memory for the graph", path);
    ok = ok && out_open(&f, path, e);
    if (ok) {
        fwrite(m.data, 1, m.count, f.stream);
        ok = out_close(&f, e);
    }
    mem_free(m.data);
    return ok;
}

static bool is_plain(const clip_config *c) {
    return c->pool == CLIP_POOL_CLASS && !c->no_class_token && !c->no_ln_pre && !c->patch_bias && !c->no_proj && !c->proj_bias &&
           !c->alpha && !c->rope.side && !c->vision.layer_scale && !c->vision.post_norm && !c->vision.sub_norm &&
           !c->vision.swiglu && !c->vision.no_key_bias && c->act_vision == ACT_QUICK_GELU && !clip_is_resnet(c);
}

bool onnx_write(const char *path, const char *weights, const clip_model *m, size_t side, size_t batch, err *e) {
    const clip_config *c = &m->config;
    size_t g = side / c->patch;
    onnx o = {.weights = weights, .batch = batch, .n = 1 + g * g, .D = c->vision.width, .H = c->vision.heads};
    char beside[4096];
    out_file f;
    value pixels = new_value(&o), z;
    snprintf(beside, sizeof beside, "%.*s%s", (int)(strrchr(path, '/') ? strrchr(path, '/') + 1 - path : 0), path, weights);
    if (sizeof(real) != sizeof(float) || !is_plain(c)) return err_set(e, "%s: a plain ViT in float32 is expected", path);
    if (!file_exists(beside)) {
        if (!out_open(&f, beside, e)) return false;
        o.out = f.stream;
    }
    put_text(&o.graph, GRAPH_NAME, "image");
    declare(&o, GRAPH_INPUT, &pixels, (size_t[]){batch, 3, side, side}, 4);
    bool ok = image_side(&o, m, pixels, side, &z, e);
    if (ok) declare(&o, GRAPH_OUTPUT, &z, (size_t[]){batch, c->embed}, 2);
    if (o.out && ok) ok = out_close(&f, e);
    else if (o.out) out_abandon(&f);
    ok = ok && write_model(path, &o, e);
    mem_free(o.graph.data);
    return ok;
}
