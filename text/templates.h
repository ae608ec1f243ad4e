/* templates.h - 85 sentences in which a text is put before it is embedded (--templates builtin).
 *
 *     texts_embed(weights, texts, count, builtin_templates, BUILTIN_TEMPLATES, &memory, cores, out, &e);
 */
#ifndef TEMPLATES_H
#define TEMPLATES_H

enum { BUILTIN_TEMPLATES = 85 };
extern const char *const builtin_templates[BUILTIN_TEMPLATES];
#endif
