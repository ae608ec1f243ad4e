#include "eval.h"
bool page_write(const char *folder, const eval_head *h, const eval_totals *t, err *e){(void)folder;(void)h;(void)t;(void)e;return true;}
