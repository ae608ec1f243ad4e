/* dense_flags.c - see dense_flags.h. */
#include "cli/dense_flags.h"
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ResCLIP's numbers: NAN where not given */
static const struct { const char *flag; size_t given, setting; } RESCLIP[] = {
    {"--tau-r", offsetof(method_flags, tau_r), offsetof(method_settings, tau_r)},
    {"--lambda-r", offsetof(method_flags, lambda_r), offsetof(method_settings, lambda_r)},
    {"--tau-s", offsetof(method_flags, tau_s), offsetof(method_settings, tau_s)},
    {"--lambda-s", offsetof(method_flags, lambda_s), offsetof(method_settings, lambda_s)},
    {"--temp-thd", offsetof(method_flags, temp_thd), offsetof(method_settings, temp_thd)},
};
enum { RESCLIP_NUMBERS = sizeof RESCLIP / sizeof *RESCLIP };
static const char *const BASES[] = {[BASE_NACLIP] = "naclip", [BASE_SCLIP] = "sclip", [BASE_CLEARCLIP] = "clearclip"};

static double number_given(const method_flags *o, size_t i) {
    double x;
    memcpy(&x, (const char *)o + RESCLIP[i].given, sizeof x);
    return x;
}

bool cli_method_fits(cli *c, const method_flags *o, const char *name) {
    const char *given = strcmp(o->base, BASES[BASE_NACLIP]) != 0 ? "--base" : NULL;
    for (size_t i = RESCLIP_NUMBERS; i-- > 0;)
        if (!isnan(number_given(o, i))) given = RESCLIP[i].flag;
    return !given || !name || !strcmp(name, "resclip") || cli_usage(c, "%s is resclip's, %s found", given, name);
}

void cli_method_settings(const method_flags *o, method_settings *s) {
    for (size_t i = 0; i < RESCLIP_NUMBERS; i++) {
        real x = (real)number_given(o, i);
        if (!isnan(x)) memcpy((char *)s + RESCLIP[i].setting, &x, sizeof x);
    }
    for (size_t i = 0; i < sizeof BASES / sizeof *BASES; i++)
        if (!strcmp(o->base, BASES[i])) s->base = (method_base)i;
}

bool cli_dilations(cli *c, const char *text, size_t dilations[PAMR_DILATIONS], size_t *count) {
    dilations[0] = 8, dilations[1] = 16, *count = 2;
    if (!text) return true;
    *count = 0;
    for (const char *at = text;; at++) {
        size_t digits = strspn(at, "0123456789");
        unsigned long n = digits && digits < 6 ? strtoul(at, NULL, 10) : 0;
        if (!n || *count == PAMR_DILATIONS)
            return cli_usage(c, "--dilations: '%s' found, at most %d whole numbers from 1 on between commas expected", text,
                             PAMR_DILATIONS);
        dilations[(*count)++] = n;
        at += digits;
        if (!*at) return true;
        if (*at != ',')
            return cli_usage(c, "--dilations: '%s' found, whole numbers between commas expected", text);
    }
}
