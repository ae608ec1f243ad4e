/* eval_page.h - the pieces of report.html: what stands in it is made in three files, top to bottom.
 *
 *     eval_page.c      head, tables, foot          eval_charts.c    methods with their intervals, curves of what was swept
 *     eval_examples.c  scenes with their maps, the worst and typical ones
 *
 * All of it is one file that needs nothing else: styles, drawings and pictures are inside. It reads on a phone and on a
 * desk, in light and dark, and without its colours.
 */
#ifndef EVAL_PAGE_H
#define EVAL_PAGE_H
#include "eval/eval.h"

/* A chart of the rows' Acc@1 and of the maps' pointing, with 95 % intervals. */
void say_method_charts(longtext *t, const eval_head *h, const eval_totals *all);
/* A curve for each setting that more than one row differs in; nothing where there is none. */
void say_curves(longtext *t, const eval_head *h, const eval_totals *all);
/* Scenes that went worst, and others at even distances, with photographs and maps. */
bool say_examples(longtext *t, const char *folder, const eval_head *h, err *e);
#endif
