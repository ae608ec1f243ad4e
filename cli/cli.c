/* cli.c - what the commands share (see cli.h). */
#include "cli/cli.h"
#include "files/json.h"
#include "files/longtext.h"
#include "regions/regions.h"
#include "regions/world.h"
#include "os/os.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

/* ---- begin, end ------------------------------------------------------------------------------- */
int cli_flush(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
    fprintf(stderr, "maskinv: standard output could not be written\n");
    return 1;
}

/* Where results go, on how many cores and in how much memory changes no result: pictures of it stay the same bytes. */
static int words_without_meaning(const char *word) {
    static const char *const flags[] = {"-o", "--out", "--threads", "--memory"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        size_t n = strlen(flags[i]);
        if (!strncmp(word, flags[i], n) && (!word[n] || word[n] == '=')) return word[n] ? 1 : 2;
    }
    return 0;
}

/* "maskinv 1.0.0  ·  maskinv invert -t 'a cat'"; what does not fit is cut. */
static void remember_line(cli *c, int argc, char **argv) {
    longtext line = {0};
    say(&line, "%s  \xC2\xB7  ", "maskinv " MASKINV_VERSION);
    size_t before = line.length;
    say(&line, "maskinv");
    for (int i = 0; i < argc; i++) {
        int without = words_without_meaning(argv[i]);
        if (without) {
            i += without - 1;
            continue;
        }
        bool plain = argv[i][0] && !argv[i][strcspn(argv[i], " \t\n'\"$*?&;|<>()")];
        say(&line, plain ? " %s" : " '%s'", argv[i]);
    }
    if (!line.failed) snprintf(c->line, sizeof c->line, "%s", line.text), c->command_line = c->line + before;
    mem_free(line.text);
}

bool cli_begin(cli *c, const command *cmd, int argc, char **argv, void *options) {
    memset(c, 0, sizeof *c);
    remember_line(c, argc, argv);
    c->command = cmd;
    c->start = seconds_now();
    if (flags_want_help(argc, argv)) {
        flags_help(cmd, stdout);
        c->code = cli_flush();
        return false;
    }
    if (flags_parse(cmd, argc, argv, options, &c->e)) {
        c->code = 1;
        return true;
    }
    flags_free(cmd, options);
    fprintf(stderr, "maskinv %s: %s\n", cmd->name, c->e.text);
    c->code = 2;
    return false;
}

int cli_end(cli *c, void *options, bool ok) {
    cli_progress_end(c);
    if (ok && (fflush(stdout) != 0 || ferror(stdout))) ok = err_set(&c->e, "standard output could not be written");
    if (!ok) fprintf(stderr, "maskinv %s: %s\n", c->command->name, c->e.text);
    pool_stop(c->cores);
    checkpoint_free(c->weights);
    mem_free(c->templates);
    mem_free(c->usual);
    mem_release(c->room, c->room_bytes);
    flags_free(c->command, options);
    return ok ? 0 : c->code;
}

int cli_run(const command *cmd, int argc, char **argv, size_t size, size_t options, bool (*work)(void *job),
            void (*give_back)(void *job)) {
    cli *c = mem_alloc(1, size); /* the job */
    if (!c) return fprintf(stderr, "maskinv %s: no memory\n", cmd->name), 1;
    int code;
    if (cli_begin(c, cmd, argc, argv, (char *)c + options)) {
        bool ok = work(c);
        give_back(c);
        code = cli_end(c, (char *)c + options, ok);
    } else {
        code = c->code;
    }
    mem_free(c);
    return code;
}

bool cli_usage(cli *c, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(c->e.text, sizeof c->e.text, format, args);
    va_end(args);
    c->code = 2;
    return false;
}

bool cli_no_strays(cli *c, const cli_stray *list, size_t count, const char *why) {
    for (size_t i = 0; i < count; i++)
        if (list[i].given) return cli_usage(c, "%s: %s", list[i].flag, why);
    return true;
}

bool cli_fault(cli *c, const fault *f) {
    err_fault(&c->e, f);
    return f->code == FAULT_MEMORY ? err_prefix(&c->e, "--memory") : false;
}

void cli_warn(cli *c, const char *format, ...) {
    va_list args;
    cli_progress_end(c);
    fprintf(stderr, "maskinv %s: warning: ", c->command->name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void cli_progress(cli *c, const char *what, size_t done, size_t of) {
    double now = seconds_now();
    if (c->progress_of != of || done < c->progress_done || !(c->progress_since > 0))
        c->progress_since = now, c->progress_from = done, c->progress_of = of; /* another job begins */
    c->progress_done = done;
    if (now - c->start < 2 || !os_terminal(stderr)) return;
    fprintf(stderr, "\r%-20.40s %zu", what, done);
    if (of) fprintf(stderr, " of %zu", of);
    fprintf(stderr, ", %.0f s", now - c->start);
    if (of && done > c->progress_from)
        fprintf(stderr, ", %.0f s left", (now - c->progress_since) / (double)(done - c->progress_from) * (double)(of - done));
    fprintf(stderr, "    ");
    fflush(stderr);
    c->progressing = true;
}

void cli_progress_end(cli *c) {
    if (c->progressing) fprintf(stderr, "\r%79s\r", "");
    c->progressing = false;
}

/* ---- model, pool, arena ------------------------------------------------------------------------ */
/* Three quarters of the machine's memory; the pages are only taken as they are touched. */
static size_t standard_memory(void) {
    uint64_t bytes = os_memory() / 4 * 3;
    if (bytes == 0) bytes = (uint64_t)1 << 30;
    return bytes < SIZE_MAX / 4 ? (size_t)bytes : SIZE_MAX / 4;
}

bool cli_open_model(cli *c, const common_options *o) { return cli_open_model_for(c, o, CHECK_IMAGE); }

bool cli_open_model_for(cli *c, const common_options *o, check_side side) {
    c->room_bytes = o->memory ? o->memory : standard_memory();
    if (!(c->room = mem_reserve(c->room_bytes))) {
        size_t asked = c->room_bytes;
        c->room_bytes = 0;
        return err_set(&c->e, "--memory: %zu bytes cannot be had", asked);
    }
    arena_init(&c->memory, c->room, c->room_bytes);
    if (!(c->weights = o->model ? checkpoint_open(o->model, &c->e) : checkpoint_builtin(&c->e))) return false;
    c->model = checkpoint_model(c->weights);
    c->builtin = !o->model;
    if (!(c->cores = pool_start(o->threads))) return err_set(&c->e, "--threads: threads could not be started");
    return checkpoint_check_side(c->weights, side, &c->e);
}

bool cli_look(cli *c, const char *path, const picture *p) {
    bool other;
    if (!c->builtin || c->said_world) return true;
    if (!world_is_other(c->model, path, p, &c->memory, c->cores, &other, &c->e)) return false;
    if (!other) return true;
    c->said_world = true;
    cli_warn(c, "%s: looks like a photograph; the built-in model knows drawn things and cut-outs alone, so what it says here means "
                "nothing (-m MODEL: a published CLIP, see weights/get)", path);
    return true;
}

bool cli_side(cli *c, size_t asked, size_t times, size_t *side) {
    size_t patch = c->model->config.patch, gh, gw;
    *side = asked ? asked : config_side(&c->model->config, times);
    c->side_from = asked ? "--size" : config_side_from(&c->model->config, times);
    if (clip_grid(&c->model->config, *side, *side, &gh, &gw)) return true;
    size_t below = *side / patch * patch;
    if (!below)
        return err_set(&c->e, "--size: %zu found, a multiple of the model's patch, %zu, expected", *side, patch);
    return err_set(&c->e, "--size: %zu found, a multiple of the model's patch, %zu, expected: %zu or %zu", *side, patch,
                   below, below + patch);
}

bool cli_layers(cli *c, size_t asked, size_t depth, size_t *layers) {
    const clip_config *m = &c->model->config;
    *layers = asked ? asked : config_layers(m);
    c->layers_from = asked ? "--layers" : config_layers_from(m);
    return *layers <= depth || err_set(&c->e, "--layers: %zu found, 1 to %zu allowed, the model's depth", *layers, depth);
}

void cli_say_layers(size_t layers, const char *from) {
    if (layers == 1) printf("the last layer explained (%s)\n", from);
    if (layers > 1) printf("the last %zu layers explained (%s)\n", layers, from);
}

void cli_say_side(const cli *c, size_t side) { printf("at %zu x %zu pixels (%s)\n", side, side, c->side_from); }

/* The command that wrote a result.json; empty where it does not say, or is no JSON. */
static void command_of(const char *path, char *out, size_t room) {
    size_t length;
    char *text = file_read(path, (size_t)1 << 30, &length, NULL);
    cJSON *root = text ? json_parse(text, length, path, NULL) : NULL;
    const cJSON *wrote = cJSON_GetObjectItemCaseSensitive(root, "command");
    snprintf(out, room, "%s", cJSON_IsString(wrote) ? wrote->valuestring : "");
    json_free(root);
    mem_free(text);
}

/* The same command again replaces its own results; those of another are said to go. */
static void say_replaced(cli *c, const char *dir, const char *path, const char *name) {
    char wrote[sizeof c->line];
    if (!file_exists(path)) return;
    command_of(path, wrote, sizeof wrote);
    if (c->command_line && !strcmp(wrote, c->command_line)) return;
    cli_warn(c, "--out %s holds the results of another run%s%.200s%s: %s and files of the same names are replaced, others stay", dir,
             *wrote ? " (" : "", wrote, *wrote ? ")" : "", name);
}

bool cli_folder(cli *c, const char *dir, const char *name) {
    char path[4096];
    if (!strcmp(dir, "-"))
        return cli_usage(c, "--out -: standard output holds one array at most; a folder's name is expected (./- for one of that name)");
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return err_set(&c->e, "--out: the path is too long");
    say_replaced(c, dir, path, name);
    return folder_make(dir, &c->e) && out_check(path, &c->e);
}

size_t peak_bytes(void) { return os_memory_peak(); }

/* ---- MaskInversion's settings -------------------------------------------------------------------- */
invert_options cli_invert(const clip_config *m, size_t iters, double lr, double alpha) {
    invert_options o = invert_defaults_of(m);
    if (!isnan(lr)) o.lr = (real)lr;
    if (!isnan(alpha)) o.alpha = (real)alpha;
    if (iters) o.iters = iters;
    return o;
}
