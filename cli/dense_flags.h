/* dense_flags.h - flags of the dense methods, the same in explain and segment.
 *
 *     method_flags method_flags; size_t pamr; const char *dilations;     // in the options
 *     CLI_PAMR_FLAGS(options, pamr, dilations), CLI_METHOD_FLAGS(options),
 *     cli_method_settings(&o->method_flags, &settings);                  // what was given, over what is there
 */
#ifndef DENSE_FLAGS_H
#define DENSE_FLAGS_H
#include "cli/cli.h"
#include "methods.h"

typedef struct {
    double tau_r, lambda_r, tau_s, lambda_s, temp_thd;
    const char *base;
} method_flags;
#define CLI_METHOD_FLAGS(options)                                                                                              \
    {"base", 0, FLAG_CHOICE, offsetof(options, method_flags.base), "naclip|sclip|clearclip", .standard = "naclip",             \
     .help = "resclip: whose attention it begins with"},                                                                       \
        {"tau-r", 0, FLAG_NUMBER, offsetof(options, method_flags.tau_r), "X", 0, 1e3,                                          \
         .help = "resclip: what rows of attention sum to; not given: 2"},                                                      \
        {"lambda-r", 0, FLAG_NUMBER, offsetof(options, method_flags.lambda_r), "X", 0, 1,                                      \
         .help = "resclip: the middle blocks' share; not given: 0.3, or the list's"},                                          \
        {"tau-s", 0, FLAG_NUMBER, offsetof(options, method_flags.tau_s), "X", 0, 1e3,                                          \
         .help = "resclip: sharpness of the second pass; not given: 2.2, or the list's"},                                      \
        {"lambda-s", 0, FLAG_NUMBER, offsetof(options, method_flags.lambda_s), "X", 0, 1,                                      \
         .help = "resclip: the labels' share; not given: 0.7, or the list's"},                                                 \
    {                                                                                                                          \
        "temp-thd", 0, FLAG_NUMBER, offsetof(options, method_flags.temp_thd), "X", 0, 1,                                       \
            .help = "resclip: pixels less sure than this are the first text's; not given: 0.5, or the list's"                  \
    }
#define CLI_PAMR_FLAGS(options, steps, dilation)                                                                               \
    {"pamr", 0, FLAG_COUNT, offsetof(options, steps), "N", 1, 1000,                                                            \
     .help = "steps in which PAMR draws what was found to the picture's edges (NACLIP: 10); not given: none"},                 \
    {                                                                                                                          \
        "dilations", 0, FLAG_TEXT, offsetof(options, dilation), "N,N...",                                                      \
            .help = "PAMR: how far its neighbours are, in pixels; not given: 8,16"                                             \
    }

/* Are they read? A usage error where one is given and the method is not resclip; NULL: several methods, it is among them. */
bool cli_method_fits(cli *c, const method_flags *o, const char *name);
/* What the flags gave, over what s holds. */
void cli_method_settings(const method_flags *o, method_settings *s);
/* "8,16" -> dilations; text NULL: 8 and 16. A usage error otherwise. */
bool cli_dilations(cli *c, const char *text, size_t dilations[PAMR_DILATIONS], size_t *count);
#endif
