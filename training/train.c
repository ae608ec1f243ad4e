/* train.c - the program ./train: flags in, a model folder out (see trainer.h).
 *
 *     ./train --overfit                                  # first: 32 drawn pictures, all right within a minute
 *     ./train -o run --hours 1                           # then: a CLIP of 1.7 million parameters
 *     ./train -o run --resume                            # after an interruption, to the same bytes
 */
#include "training/loop.h"
#include "training/systems.h"
#include "sys/threads.h"
#include "training/trainer.h"
#include "os/os.h"
#include "clip.h"
#include "face/face.h"
#include "files/roff.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    train_options run;
    bool overfit, help;
} command_line;

/* ---- ./train NAME: the systems beside CLIP itself ------------------------------------------------------- */
static const training_system *const systems[] = {&caption_system, &imagine_system, &judge_system, &alpha_system, &align_system,
                                                &probe_system, &safe_system, &evidence_system, &anchors_system, &heads_system};
enum { SYSTEMS = sizeof systems / sizeof *systems };

/* ---- --help and the manual page, of the same tables ------------------------------------------------------- */
typedef struct {
    const char *flag, *argument, *help;
} own_flag;
static const own_flag clip_flags[] = {
    {"-o", "FOLDER", "where the run lives"},
    {"--resume", NULL, "go on from the folder's last checkpoint, with its settings"},
    {"--from", "FOLDER", "begin with this folder's model and merges.txt, of the same shape but for --image; once there is a "
                         "checkpoint, --resume goes on with that"},
    {"--overfit", NULL, "32 drawn pictures again and again, until all are right; a minute at most"},
    {"--stamps", "FOLDER", "cut-outs (those of Debian's tuxpaint-stamps-default)"},
    {"--kind", "KIND", "drawn, photographic or mixed: --photographic 0, 1 or 0.5"},
    {"--objects", "A-B", "--least-objects A --most-objects B"},
    {"--steps", "N", "--images N times --batch"},
    {"--quiet", NULL, "no progress"},
};
static const own_flag system_flags[] = {
    {"-o", "FOLDER", "where the run lives"},
    {"--resume", NULL, "go on from the folder's last checkpoint, with its settings"},
    {"--model", "MODEL", "the CLIP beside which it is trained (the one inside the program)"},
    {"--quiet", NULL, "no progress"},
    {"--stamps", "FOLDER", "cut-outs (those of Debian's tuxpaint-stamps-default)"},
};
enum { CLIP_FLAGS = sizeof clip_flags / sizeof *clip_flags, SYSTEM_FLAGS = sizeof system_flags / sizeof *system_flags };

/* The last flag is for those alone that show cut-outs. */
static bool shows_cutouts(const training_system *t) { return t == &safe_system; }
static size_t flags_of(const training_system *t) { return SYSTEM_FLAGS - !shows_cutouts(t); }

/* "tokens_mean" or "80": a setting's value when it is not given. */
static const char *standard(const setting *s, char room[32]) {
    if (s == &train_settings[S_POOL]) return s->value == (double)CLIP_POOL_CLASS ? "class" : "tokens_mean";
    snprintf(room, 32, "%.10g", s->value);
    return room;
}

static void help_flags(const own_flag *own, size_t count, const setting *s, size_t settings) {
    char room[32];
    for (size_t i = 0; i < count; i++) {
        int wide = printf("  %s %s", own[i].flag, own[i].argument ? own[i].argument : "");
        printf("%*s%s\n", wide < 25 ? 25 - wide : 1, "", own[i].help);
    }
    for (size_t i = 0; i < settings; i++) printf("  --%-20s %s (%s)\n", s[i].flag, s[i].help, standard(&s[i], room));
}

static void system_help(const training_system *t) {
    printf("usage: train %s -o FOLDER [--resume] [--FLAG VALUE...]\n\n"
           "Trains %s, on scenes that it makes itself. FOLDER receives %s.safetensors, checkpoints, loss.csv,\n"
           "valid.csv and curve.png. Interrupted or killed, a run goes on with --resume to the same bytes.\n\n",
           t->name, t->what, t->name);
    help_flags(system_flags, flags_of(t), t->recipe, t->settings);
}

static void help(void) {
    printf("usage: train -o FOLDER [--resume] [--FLAG VALUE...]\n"
           "       train --overfit [--FLAG VALUE...]\n"
           "       train SYSTEM -o FOLDER [--FLAG VALUE...]    (train SYSTEM --help)\n\n"
           "Trains a small CLIP on scenes that it makes itself. FOLDER receives the model, checkpoints, loss.csv,\n"
           "valid.csv and curve.png. Interrupted or killed, a run goes on with --resume to the same bytes.\n\n");
    help_flags(clip_flags, CLIP_FLAGS, train_settings, S_COUNT);
    printf("\nSystems that are trained beside a CLIP:\n");
    for (size_t i = 0; i < SYSTEMS; i++) printf("  %-22s %s\n", systems[i]->name, systems[i]->what);
}

static void manual_flags(const own_flag *own, size_t count, const setting *s, size_t settings) {
    char room[32];
    for (size_t i = 0; i < count; i++) {
        bool letter = own[i].flag[1] != '-';
        roff_flag(stdout, letter ? own[i].flag[1] : 0, letter ? NULL : own[i].flag + 2, own[i].argument);
        roff_text(stdout, own[i].help), printf(".\n");
    }
    for (size_t i = 0; i < settings; i++) {
        roff_flag(stdout, 0, s[i].flag, "N");
        roff_text(stdout, s[i].help), printf("; %s when not given.\n", standard(&s[i], room));
    }
}

static void manual(void) {
    static const roff_row examples[] = {
        {"Whether all is well, in seconds", "train --overfit"},
        {"A CLIP in an hour, which -m run/model then takes", "train -o run --hours 1"},
        {"The same run after an interruption", "train -o run --resume"},
        {"A captioner for the model inside the program", "train caption -o captioner --steps 1200"},
    };
    static const roff_row files[] = {
        {"FOLDER/model", "the averaged weights, their config and merges.txt: a model for maskinv -m"},
        {"FOLDER/SYSTEM.safetensors", "what train SYSTEM made"},
        {"FOLDER/checkpoint.safetensors, FOLDER/checkpoint.safetensors.previous", "what --resume goes on with"},
        {"FOLDER/loss.csv, FOLDER/valid.csv, FOLDER/curve.png", "loss and accuracy, held-out pictures, and both as a picture"},
    };
    roff_begin(stdout, "train", MASKINV_VERSION, "a small CLIP, and systems beside it, trained on scenes made on the way");
    roff_section(stdout, "SYNOPSIS");
    printf(".B train\n\\-o FOLDER [\\-\\-resume] [flags]\n.br\n.B train\n\\-\\-overfit [flags]\n.br\n.B train\n"
           "\\fISYSTEM\\fR \\-o FOLDER [\\-\\-resume] [flags]\n");
    roff_section(stdout, "DESCRIPTION");
    roff_text(stdout, "Trains a small CLIP on pictures and captions that it makes itself, or a system beside a CLIP that is left as it "
                      "is.\nThe same settings give the same bytes, on any number of cores and however often the run was interrupted.\n"
                      "--help lists the flags, --man prints this page.\n");
    roff_section(stdout, "FLAGS");
    manual_flags(clip_flags, CLIP_FLAGS, train_settings, S_COUNT);
    roff_section(stdout, "SYSTEMS");
    for (size_t i = 0; i < SYSTEMS; i++) {
        printf(".SS %s\n", systems[i]->name);
        roff_text(stdout, systems[i]->what), printf(".\n");
        manual_flags(system_flags, flags_of(systems[i]), systems[i]->recipe, systems[i]->settings);
    }
    roff_examples(stdout, examples, sizeof examples / sizeof *examples);
    roff_names(stdout, "FILES", files, sizeof files / sizeof *files);
    roff_end(stdout);
    roff_section(stdout, "SEE ALSO");
    printf(".BR maskinv (1)\n");
}

static bool number(const char *flag, const char *text, double least, double most, double *out, err *e) {
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v)) return err_set(e, "--%s: '%s' found, a number expected", flag, text);
    if (!(v >= least && v <= most)) return err_set(e, "--%s: %s found, %g to %g allowed", flag, text, least, most);
    *out = v;
    return true;
}

static void give(setting *s, int which, double value) {
    s[which].value = value;
    s[which].given = true;
}

static bool parse_setting(setting *s, size_t count, const char *flag, const char *text, err *e) {
    double v = 0;
    for (int i = 0; i < (int)count; i++) {
        if (strcmp(s[i].flag, flag) != 0) continue;
        if (!number(flag, text, s[i].least, s[i].most, &v, e)) return false;
        if (!s[i].fraction && v != floor(v)) return err_set(e, "--%s: %s found, a whole number expected", flag, text);
        give(s, i, v);
        return true;
    }
    return err_set(e, "--%s: no such flag; see --help", flag);
}

static bool parse_pool(setting *s, const char *text, err *e) {
    if (strcmp(text, "class") != 0 && strcmp(text, "tokens_mean") != 0)
        return err_set(e, "--pool: '%s' found, expected class or tokens_mean", text);
    give(s, S_POOL, strcmp(text, "class") == 0 ? CLIP_POOL_CLASS : CLIP_POOL_MEAN);
    return true;
}

static bool parse_kind(setting *s, const char *text, err *e) {
    static const char *const kinds[] = {"drawn", "mixed", "photographic"};
    for (int i = 0; i < 3; i++)
        if (strcmp(text, kinds[i]) == 0) {
            give(s, S_PHOTOGRAPHIC, i / 2.0);
            return true;
        }
    return err_set(e, "--kind: '%s' found, expected drawn, photographic or mixed", text);
}

static bool parse_objects(setting *s, const char *text, err *e) {
    unsigned a, b;
    char rest;
    int n = sscanf(text, "%1u-%1u%c", &a, &b, &rest);
    if (n == 1 && !text[1]) b = a, n = 2;
    if (n != 2 || a < 1 || b < a || b > 8)
        return err_set(e, "--objects: '%s' found, expected a range like 1-4, 8 at most", text);
    give(s, S_LEAST, a);
    give(s, S_MOST, b);
    return true;
}

/* Flags with a value; --steps waits until the batch is known. */
static bool parse_value(setting *s, command_line *c, const char *flag, const char *text, double *steps, err *e) {
    if (strcmp(flag, "pool") == 0) return parse_pool(s, text, e);
    if (strcmp(flag, "kind") == 0) return parse_kind(s, text, e);
    if (strcmp(flag, "objects") == 0) return parse_objects(s, text, e);
    if (strcmp(flag, "steps") == 0) return number(flag, text, 1, 1e9, steps, e);
    if (strcmp(flag, "stamps") == 0) return c->run.stamps = text, true;
    if (strcmp(flag, "from") == 0) return c->run.from = text, true;
    if (strcmp(flag, "o") == 0) return c->run.folder = text, true;
    return parse_setting(s, S_COUNT, flag, text, e);
}

static bool parse_switch(command_line *c, const char *arg) {
    if (strcmp(arg, "--resume") == 0)
        c->run.resume = true;
    else if (strcmp(arg, "--overfit") == 0)
        c->overfit = true;
    else if (strcmp(arg, "--quiet") == 0)
        c->run.quiet = true;
    else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
        c->help = true;
    else
        return false;
    return true;
}

/* argv[*i], -o or --NAME, and its value: "=" or the next one. */
static bool flag_and_value(int argc, char **argv, int *i, char **flag, char **value, err *e) {
    char *arg = argv[*i];
    if (strcmp(arg, "-o") != 0 && strncmp(arg, "--", 2) != 0) return err_set(e, "'%s': a flag expected; see --help", arg);
    *flag = arg + (arg[1] == '-' ? 2 : 1);
    *value = strchr(*flag, '=');
    if (*value)
        *(*value)++ = 0;
    else if (*i + 1 < argc)
        *value = argv[++*i];
    else
        return err_set(e, "--%s: a value expected", *flag);
    return true;
}

static bool parse(int argc, char **argv, setting *s, command_line *c, err *e) {
    double steps = 0;
    for (int i = 1; i < argc; i++) {
        char *flag, *value;
        if (parse_switch(c, argv[i])) continue;
        if (!flag_and_value(argc, argv, &i, &flag, &value, e) || !parse_value(s, c, flag, value, &steps, e)) return false;
    }
    const char *beside = c->run.from ? "--from" : c->run.folder ? "-o" : c->run.resume ? "--resume" : NULL;
    if (c->overfit && beside) return err_set(e, "--overfit begins anew and writes nothing, it does not go with %s", beside);
    int lengths = (steps > 0) + s[S_IMAGES].given + (s[S_HOURS].given && s[S_HOURS].value > 0);
    if (c->overfit && lengths) return err_set(e, "--overfit goes on until all is right: --steps, --images and --hours do not go with it");
    if (lengths > 1) return err_set(e, "--steps, --images and --hours: one of them is expected, %d given", lengths);
    c->run.steps = steps;
    if (!c->help && !c->overfit && !c->run.folder) return err_set(e, "-o FOLDER is missing; see --help");
    return true;
}

/* What is asked of 32 pictures: no long warm-up, few captions for the words, no average that lags behind. */
static void overfit_defaults(setting *s) {
    static const struct {
        int which;
        double value;
    } own[] = {{S_BATCH, 32}, {S_CAPTIONS, 2000}, {S_WARMUP, 20}, {S_EMA, 0}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (!s[own[i].which].given) s[own[i].which].value = own[i].value;
}

/* ./train NAME ...: 0, 1, or 2 for a usage error. */
static int run_system(const training_system *t, int argc, char **argv, err *e) {
    setting *s = mem_alloc(t->settings, sizeof *s);
    command_line c = {0};
    system_options o = {0};
    if (!s) return err_set(e, "no memory"), 1;
    memcpy(s, t->recipe, t->settings * sizeof *s);
    bool good = true;
    for (int i = 2; good && i < argc; i++) {
        char *flag, *value;
        if (parse_switch(&c, argv[i]) && !c.overfit) continue;
        good = flag_and_value(argc, argv, &i, &flag, &value, e);
        if (!good) break;
        if (strcmp(flag, "o") == 0) o.folder = value;
        else if (strcmp(flag, "model") == 0) o.model = value;
        else if (strcmp(flag, "stamps") == 0 && shows_cutouts(t)) o.stamps = value;
        else good = parse_setting(s, t->settings, flag, value, e);
    }
    if (good && !c.help && !o.folder) good = err_set(e, "-o FOLDER is missing; see --help");
    int code = good ? 0 : 2;
    o.resume = c.run.resume, o.quiet = c.run.quiet;
    if (good && c.help) system_help(t);
    else if (good && !system_run(t, s, &o, e)) code = 1;
    mem_free(s);
    return code;
}

static void on_signal(int which) {
    (void)which;
    loop_stop();
}

int main(int argc, char **argv) {
    setting s[S_COUNT];
    command_line c = {0};
    err e = {{0}};
    argv = os_arguments(&argc, argv);
    memcpy(s, train_settings, sizeof s);
    mem_hook_cjson();
    if (!pool_products(&e)) return fprintf(stderr, "train: %s\n", e.text), 2;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (argc == 2 && strcmp(argv[1], "--man") == 0) {
        manual();
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < SYSTEMS; i++)
        if (strcmp(argv[1], systems[i]->name) == 0) {
            int code = run_system(systems[i], argc, argv, &e);
            if (code) fprintf(stderr, "train %s: %s\n", systems[i]->name, e.text);
            return code;
        }
    if (!parse(argc, argv, s, &c, &e)) {
        fprintf(stderr, "train: %s\n", e.text);
        return 2;
    }
    if (c.help) {
        help();
        return 0;
    }
    if (c.overfit) overfit_defaults(s);
    if (c.overfit ? trainer_overfit(s, &c.run, 60, &e) : trainer_run(s, &c.run, &e)) return 0;
    fprintf(stderr, "train: %s\n", e.text);
    return 1;
}
