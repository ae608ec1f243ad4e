/* cli.h - what the commands share: begin and end, the model, texts, progress.
 *
 *     int cmd_embed(int argc, char **argv) {
 *         options o;
 *         cli c;
 *         if (!cli_begin(&c, &embed_command, argc, argv, &o)) return c.code;   // --help, or a usage error
 *         return cli_end(&c, &o, cli_open_model(&c, &o.common) && embed(&c, &o));
 *     }
 *
 * A new command is a file cmd_NAME.c with a `const command NAME_command`, and one row in commands.c's table; then `make man`
 * (a test compares maskinv.1 with the flag tables). Work functions return false with the message in c->e; cli_end
 * prints it and gives the exit code: 1, or 2 where c->code says so.
 */
#ifndef CLI_H
#define CLI_H
#include "models/texts.h"
#include "explain.h"
#include "cli/flags.h"
#include "face/face.h"
#include "pictures/image.h"
#include "maskinv.h"
#include "sys/threads.h"

typedef struct {
    const char *model;
    size_t threads, memory;
} common_options;
#define CLI_MODEL_FLAG(options)                                                                                        \
    {                                                                                                                  \
        "model", 'm', FLAG_TEXT, offsetof(options, common.model), "MODEL",                                             \
            .help = "a folder or file of weights; not given: the model inside this binary"                             \
    }
#define CLI_COMMON_FLAGS(options)                                                                                      \
    CLI_MODEL_FLAG(options), {"threads", 0, FLAG_COUNT, offsetof(options, common.threads),                             \
                              "N",       1, 1024,       .help = "cores to use; not given: all"},                       \
    {                                                                                                                  \
        "memory", 0, FLAG_BYTES, offsetof(options, common.memory), "SIZE", 1 << 20,                                    \
            .help = "most working memory (900M, 2G); not given: three quarters of the machine's"                       \
    }

typedef struct {
    text_list texts, templates;
    const char *file;
} text_options;
#define CLI_TEXT_FLAGS(options)                                                                                        \
    {"text", 't', FLAG_LIST, offsetof(options, text.texts), "TEXT", .help = "a text to compare with"},                 \
        {"template", 0,                                                                                                \
         FLAG_LIST,  offsetof(options, text.templates),                                                                \
         "TEMPLATE", .help = "a sentence with {} where the text goes; a text is then the mean of its sentences"},      \
    {                                                                                                                  \
        "templates", 0, FLAG_TEXT, offsetof(options, text.file), "FILE",                                               \
            .help =                                                                                                    \
                "a file of templates, one a line; or builtin: the 80 published for ImageNet and 5 of CLIP Surgery's"   \
    }

typedef struct {
    const command *command;
    int code;     /* exit code when something failed; 1 unless it was the usage */
    double start; /* seconds_now() at the beginning */
    checkpoint *weights;
    const clip_model *model;
    pool *cores;
    arena memory;
    void *room; /* the arena's address space */
    size_t room_bytes;
    char line[1024];  /* the command as it was typed, and this version: for the foot of what it makes */
    const char *side_from, *layers_from; /* "--size", "the model's config"... */
    const char **templates; /* those that the texts stood in, till the end; NULL: they stood alone */
    size_t template_count;
    real *usual; /* cli_usual's */
    bool asked_usual;
    const char *command_line; /* its part without the version */
    double progress_since;    /* for the time that is left: when this job began, with how much done, of how much */
    size_t progress_from, progress_of, progress_done;
    bool builtin, said_world, said_words; /* the model inside the binary; what was said of its limits */
    bool progressing; /* a progress line stands on the terminal */
    err e;
} cli;

/* Parses. False: leave with c->code (help was printed, or a usage message). */
bool cli_begin(cli *c, const command *cmd, int argc, char **argv, void *options);
/* Prints c->e when not ok, frees everything, returns the exit code. */
int cli_end(cli *c, void *options, bool ok);
/* All of a command whose work needs more than a few variables: a job of this size, zeroed, that begins with a cli and has its
 * options at byte `options`. give_back frees what the job holds, however the work ended. Returns the exit code. */
int cli_run(const command *cmd, int argc, char **argv, size_t size, size_t options, bool (*work)(void *job),
            void (*give_back)(void *job));
/* Model, pool and arena; the image side's numbers are looked at, the text side's when texts are first embedded. */
bool cli_open_model(cli *c, const common_options *o);
bool cli_open_model_for(cli *c, const common_options *o, check_side side);
/* Empties standard output: 0, or 1 and a message when it cannot be written. */
int cli_flush(void);
/* A usage error that the table cannot express; returns false. */
bool cli_usage(cli *c, const char *format, ...) PRINTF_LIKE(2, 3);
/* Flags that are given and would not be obeyed: a usage error that names the first, and why. True: none is given. */
typedef struct {
    const char *flag;
    bool given;
} cli_stray;
bool cli_no_strays(cli *c, const cli_stray *list, size_t count, const char *why);
bool cli_fault(cli *c, const fault *f);
void cli_warn(cli *c, const char *format, ...) PRINTF_LIKE(2, 3);
/* A line on standard error, with the time that is left: on a terminal only, and not in the first two seconds. of 0: unknown. */
void cli_progress(cli *c, const char *what, size_t done, size_t of);
void cli_progress_end(cli *c);
/* The side of the squashed square: as asked, or what the model likes (config_side); a multiple of the patch. c->side_from
 * says where it came from. */
bool cli_side(cli *c, size_t asked, size_t times, size_t *side);
/* "at 96 x 96 pixels (the model's config)" on standard output. */
void cli_say_side(const cli *c, size_t side);
/* The last layers that MaskInversion explains: as asked, what the model's config likes, or one; at most
 * depth. c->layers_from says which. */
bool cli_layers(cli *c, size_t asked, size_t depth, size_t *layers);
/* "the last 3 layers explained (the model's config)"; 0: nothing. */
void cli_say_layers(size_t layers, const char *from);
/* Makes the folder of --out, and looks whether DIR/name can be written: now, not after the work. What another run left there
 * is said to be replaced. */
bool cli_folder(cli *c, const char *dir, const char *name);
/* The flag where it was given (iters > 0, the others no NaN), else what the model's config likes, else the paper's. */
invert_options cli_invert(const clip_config *m, size_t iters, double lr, double alpha);
/* Says so, once, where the built-in model is shown a picture that is not of its world. */
bool cli_look(cli *c, const char *path, const picture *p);
/* Largest memory this process ever held, in bytes. */
size_t peak_bytes(void);

/* ---- texts ------------------------------------------------------------------------------------- */
/* The templates of the flags; when they name none: the first `builtin` of the built-in ones. --templates builtin: those, or
 * all where builtin is 0. mem_free kept. */
typedef struct {
    const char *const *item;
    size_t count;
    const char **kept;
} template_set;
bool cli_templates(cli *c, const text_options *o, size_t builtin, template_set *out);
/* Says so where a text, put into the template `within` (NULL: alone), is longer than the context, or looks wrongly decoded. */
bool cli_say_text(cli *c, const tokenizer *tokens, const char *text, const char *within, size_t context);
/* Names, once, words of texts that the built-in model was never trained on. */
void cli_say_words(cli *c, const char *const *texts, size_t count);
/* texts_usual's embedding in *out, made once and kept; what it says of a model without a tokenizer is warned of. */
bool cli_usual(cli *c, const real **out);
/* Unit embeddings [count, E] of texts within templates, in *out (mem_free it). */
bool cli_embed(cli *c, const template_set *templates, const char *const *texts, size_t count, real **out);
/* The texts of the flags, [texts, E] in *out (mem_free it); NULL where there are none. */
bool cli_texts(cli *c, const text_options *o, real **out);

/* ---- the program ---------------------------------------------------------------------------------- */
int cli_main(int argc, char **argv);
/* The manual page, in roff. */
void cli_manual(FILE *out, const command *const *commands, size_t count);
int cmd_invert(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_scenes(int argc, char **argv);
int cmd_regions(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_merge(int argc, char **argv);
int cmd_dataset(int argc, char **argv);
int cmd_caption(int argc, char **argv);
int cmd_imagine(int argc, char **argv);
int cmd_anomaly(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_segment(int argc, char **argv);
#endif
