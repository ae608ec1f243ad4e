/* x_skip.h - a test that cannot be done here says why, and is counted as skipped (after cmocka.h). */
#ifndef X_SKIP_H
#define X_SKIP_H
#define SKIP(why)                                                                                                      \
    do {                                                                                                               \
        print_message("[  SKIPPED ] %s: %s\n", __func__, why);                                                         \
        skip();                                                                                                        \
    } while (0)
#endif
