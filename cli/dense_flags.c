/* dense_flags.c - see dense_flags.h. */
#include "cli/dense_flags.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool cli_method_fits(cli *c, const method_flags *o, const char *name) {
    const char *given = !isnan(o->tau_r)                ? "--tau-r"
                        : !isnan(o->lambda_r)           ? "--lambda-r"
                        : !isnan(o->tau_s)              ? "--tau-s"
                        : !isnan(o->lambda_s)           ? "--lambda-s"
                        : !isnan(o->temp_thd)           ? "--temp-thd"
                        : strcmp(o->base, "naclip") != 0 ? "--base"
                                                        : NULL;
    return !given || !name || !strcmp(name, "resclip") || cli_usage(c, "%s is resclip's, %s found", given, name);
}

void cli_method_settings(const method_flags *o, method_settings *s) {
    if (!isnan(o->tau_r)) s->tau_r = (real)o->tau_r;
    if (!isnan(o->lambda_r)) s->lambda_r = (real)o->lambda_r;
    if (!isnan(o->tau_s)) s->tau_s = (real)o->tau_s;
    if (!isnan(o->lambda_s)) s->lambda_s = (real)o->lambda_s;
    if (!isnan(o->temp_thd)) s->temp_thd = (real)o->temp_thd;
    s->base = !strcmp(o->base, "sclip") ? BASE_SCLIP : !strcmp(o->base, "clearclip") ? BASE_CLEARCLIP : BASE_NACLIP;
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
