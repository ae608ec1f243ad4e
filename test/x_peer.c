/* x_peer.c - see x_peer.h; the other end is test/peer.mjs. */
#include "x_peer.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "files/files.h"
#include "x_onnx.h"

enum { PATH = 512 };

/* The folder of node's modules; NULL: it is not there. */
static const char *modules(void) {
    static char path[PATH];
    const char *folder = getenv("PEER") ? getenv("PEER") : getenv("NODE_PATH");
    snprintf(path, sizeof path, "%s/onnxruntime-node", folder ? folder : "");
    return folder && folder_exists(path) ? folder : NULL;
}

static bool has_node(void) { return system("node --version >/dev/null 2>&1") == 0; }

static bool write_numbers(const char *path, const float *x, size_t count, err *e) {
    out_file f;
    if (!out_open(&f, path, e)) return false;
    fwrite(x, sizeof *x, count, f.stream);
    return out_close(&f, e);
}

static bool read_numbers(const char *path, float *x, size_t count, err *e) {
    size_t length;
    char *bytes = file_read(path, count * sizeof *x, &length, e);
    bool ok = bytes && (length == count * sizeof *x || err_set(e, "%s: %zu bytes found, %zu expected", path, length, count * sizeof *x));
    if (ok) memcpy(x, bytes, length);
    mem_free(bytes);
    return ok;
}

/* Runs argv with a pipe to it and one from it. */
static bool start(peer *p, char *const *argv, err *e) {
    int to[2], from[2];
    if (pipe(to) || pipe(from)) return err_set(e, "no pipes");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        dup2(to[0], 0), dup2(from[1], 1);
        close(to[0]), close(to[1]), close(from[0]), close(from[1]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(to[0]), close(from[1]);
    p->process = child;
    p->asks = fdopen(to[1], "w"), p->says = fdopen(from[0], "r");
    signal(SIGPIPE, SIG_IGN);
    return (child > 0 && p->asks && p->says) || err_set(e, "%s: not started", argv[0]);
}

static bool hear(peer *p, char *line, size_t room, err *e) {
    if (!p->says || !fgets(line, (int)room, p->says)) return err_set(e, "test/peer.mjs ended");
    line[strcspn(line, "\n")] = 0;
    return true;
}

bool peer_open(peer *p, const clip_model *m, const float *pixels, size_t batch, size_t side, size_t cores, const char *base,
               err *e) {
    char graph[PATH], weights[PATH], in[PATH], out[PATH], number[3][24];
    size_t E = m->config.embed;
    const char *folder = modules(), *name = strrchr(base, '/');
    *p = (peer){0};
    if (!folder) return err_set(e, "no onnxruntime-node in PEER or NODE_PATH (a folder node_modules)");
    if (!has_node()) return err_set(e, "no node here");
    snprintf(graph, sizeof graph, "%s-%zu-%zu.onnx", base, side, batch);
    snprintf(weights, sizeof weights, "%s.bin", name ? name + 1 : base);
    snprintf(in, sizeof in, "%s-pixels.f32", base), snprintf(out, sizeof out, "%s-z.f32", base);
    if (!onnx_write(graph, weights, m, side, batch, e) || !write_numbers(in, pixels, batch * 3 * side * side, e)) return false;
    snprintf(number[0], sizeof number[0], "%zu", cores);
    snprintf(number[1], sizeof number[1], "%zu", batch), snprintf(number[2], sizeof number[2], "%zu", side);
    char script[] = "test/peer.mjs", node[] = "node";
    char *argv[] = {node, script, (char *)(uintptr_t)folder, number[0], graph, in, number[1], number[2], out, NULL};
    p->z = mem_alloc(batch * E, sizeof *p->z);
    if ((p->z || err_set(e, "no memory")) && start(p, argv, e) && hear(p, p->name, sizeof p->name, e) &&
        read_numbers(out, p->z, batch * E, e))
        return true;
    peer_close(p);
    return false;
}

double peer_run(peer *p, err *e) {
    char line[64];
    if (fputs("run\n", p->asks) < 0 || fflush(p->asks) || !hear(p, line, sizeof line, e)) return -1;
    return strtod(line, NULL);
}

void peer_close(peer *p) {
    if (p->asks) fclose(p->asks);
    if (p->says) fclose(p->says);
    if (p->process > 0) waitpid((pid_t)p->process, NULL, 0);
    mem_free(p->z);
    *p = (peer){0};
}
