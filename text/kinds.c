/* kinds.c - what all kinds of tokenizers are made with (see kinds.h): a list of ids, a tokenizer from its parts. */
#include "text/kinds.h"

bool ids_add(id_list *l, uint32_t id, err *e) {
    if (!GROW(l->id, l->room, l->count + 1, e)) return false;
    l->id[l->count++] = id;
    return true;
}

tokenizer *tokenizer_make(const tokenizer_kind *kind, void *own, unsigned clean, uint32_t start, uint32_t end,
                          const char *name, err *e) {
    tokenizer *t = own ? mem_alloc(1, sizeof *t) : NULL;
    if (!t) {
        if (own) kind->free(own), (void)err_set(e, "%s: no memory for a tokenizer", name);
        return NULL;
    }
    *t = (tokenizer){.kind = kind, .own = own, .clean = clean, .start = start, .end = end};
    return t;
}
