/* test_pickle.c - pickles as plain values, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "files/pickle.h"

#define PARSE(bytes, rules, e) pickle_parse((const unsigned char *)(bytes), sizeof(bytes) - 1, "X", rules, NULL, e)

static pickle *opened(const char *bytes, size_t length, pickle_rules rules) {
    err e = {0};
    pickle *p = pickle_parse((const unsigned char *)bytes, length, "X", rules, NULL, &e);
    if (!p) fail_msg("%s", e.text);
    return p;
}
#define OPENED(bytes, rules) opened(bytes, sizeof(bytes) - 1, rules)

/* {'a': [1, -2, 70000], 'b': ('x', None, True), 'c': 1.5, 'd': 2**40, 'e': u'h\xe9\u4e2d'} */
static const char TEXT[] = "(dp0\nS'a'\np1\n(lp2\nI1\naI-2\naI70000\nasS'b'\np3\n(S'x'\np4\nNI01\ntp5\nsS'c'\nF1.5\nsS'd'\n"
                           "L1099511627776L\nsS'e'\nVh\xe9\\u4e2d\np6\ns.";
static const char BINARY[] = "\x80\x02}q\x00(U\x01" "aq\x01]q\x02(K\x01J\xfe\xff\xff\xffJp\x11\x01\x00" "eU\x01" "bX\x01\x00\x00\x00x"
                             "N\x88\x87U\x01" "cG?\xf8\x00\x00\x00\x00\x00\x00U\x01" "d\x8a\x06\x00\x00\x00\x00\x00\x01U\x01" "e"
                             "X\x06\x00\x00\x00h\xc3\xa9\xe4\xb8\xadu.";

static void check_values(const pickle_value *v) {
    const pickle_value *a = pickle_get(v, "a"), *b = pickle_get(v, "b"), *d = pickle_get(v, "d");
    assert_int_equal(v->kind, PICKLE_DICT);
    assert_int_equal(v->count, 10);
    assert_true(a && a->kind == PICKLE_LIST && a->count == 3);
    assert_true(a->items[0]->whole == 1 && a->items[1]->whole == -2 && a->items[2]->whole == 70000);
    assert_true(b && b->kind == PICKLE_TUPLE && b->count == 3 && pickle_is(b->items[0], "x"));
    assert_int_equal(b->items[1]->kind, PICKLE_NONE);
    assert_true(b->items[2]->kind == PICKLE_BOOL && b->items[2]->whole == 1);
    assert_true(pickle_get(v, "c")->number == 1.5);
    assert_true(d->kind == PICKLE_INT && d->whole == (int64_t)1 << 40);
    assert_true(pickle_is(pickle_get(v, "e"), "h\xc3\xa9\xe4\xb8\xad"));
    assert_null(pickle_get(v, "f"));
    assert_null(pickle_get(a, "f"));
}

static void values_of_both_protocols(void **state) {
    (void)state;
    pickle *text = OPENED(TEXT, PICKLE_DATA), *binary = OPENED(BINARY, PICKLE_DATA), *loose = OPENED(BINARY, PICKLE_CHECKPOINT);
    check_values(pickle_root(text));
    check_values(pickle_root(binary));
    check_values(pickle_root(loose));
    pickle_free(text);
    pickle_free(binary);
    pickle_free(loose);
}

static void escapes(void **state) {
    (void)state;
    pickle *p = OPENED("S\"it's \\x41\\n\\\\\\'\"\n.", PICKLE_DATA), *q = OPENED("V\\ud83d\\ude00\\U0001F600\\n\n.", PICKLE_DATA);
    assert_true(pickle_is(pickle_root(p), "it's A\n\\'"));
    assert_true(pickle_is(pickle_root(q), "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\\n"));
    pickle_free(p);
    pickle_free(q);
}

static void calls_are_not_followed(void **state) {
    (void)state;
    pickle *p = OPENED("\x80\x02" "cposix\nsystem\n(X\x04\x00\x00\x00truetR}b.", PICKLE_CHECKPOINT);
    const pickle_value *v = pickle_root(p);
    assert_true(pickle_calls(v, "posix system"));
    assert_true(pickle_is(v->items[1]->items[0], "true"));
    assert_string_equal(pickle_describe(v).text, "an object of posix.system");
    pickle_free(p);
    p = OPENED("\x80\x02" "ccollections\nOrderedDict\n)R(U\x01" "aK\x01u}(X\x01\x00\x00\x00_Nub.", PICKLE_CHECKPOINT);
    assert_int_equal(pickle_get(pickle_root(p), "a")->whole, 1);
    pickle_free(p);
    p = OPENED("\x80\x02" "ccollections\nOrderedDict\n]](U\x01" "aK\x01" "ea\x85R.", PICKLE_CHECKPOINT);
    assert_int_equal(pickle_get(pickle_root(p), "a")->whole, 1);
    pickle_free(p);
}

static void one_after_another(void **state) {
    (void)state;
    err e = {0};
    size_t used;
    const char two[] = "K\x01.K\x02.";
    pickle *p = pickle_parse((const unsigned char *)two, 6, "X", PICKLE_DATA, &used, &e);
    assert_non_null(p);
    assert_int_equal(used, 3);
    pickle_free(p);
    assert_null(PARSE("K\x01.K\x02.", PICKLE_DATA, &e));
    assert_non_null(strstr(e.text, "3 bytes follow"));
}

static void refusals(void **state) {
    (void)state;
#define ROW(bytes, rules, wanted) {bytes, sizeof(bytes) - 1, rules, wanted}
    static const struct {
        const char *bytes;
        size_t length;
        pickle_rules rules;
        const char *wanted;
    } bad[] = {
        ROW("", PICKLE_DATA, "X: byte 0, opcode: the end found, expected STOP"),
        ROW("N", PICKLE_DATA, "byte 1, opcode: the end found"),
        ROW("cposix\nsystem\n.", PICKLE_DATA, "byte 0, GLOBAL: is refused: it is not among the opcodes that hold data"),
        ROW("N)R.", PICKLE_DATA, "byte 2, REDUCE: is refused"),
        ROW("Nb.", PICKLE_DATA, "BUILD: is refused"),
        ROW("(iposix\nsystem\n.", PICKLE_CHECKPOINT, "INST: is refused"),
        ROW("(o.", PICKLE_CHECKPOINT, "OBJ: is refused"),
        ROW("NN\x92.", PICKLE_CHECKPOINT, "NEWOBJ_EX: is refused"),
        ROW("P1\n.", PICKLE_CHECKPOINT, "PERSID: is refused"),
        ROW("\x82\x01.", PICKLE_CHECKPOINT, "EXT1: is refused"),
        ROW("0.", PICKLE_CHECKPOINT, "POP: is refused"),
        ROW("0.", PICKLE_DATA, "POP: the stack is empty"),
        ROW("\xff.", PICKLE_DATA, "0xff found, which is none"),
        ROW("h\x05.", PICKLE_DATA, "BINGET: memo slot 5 was never set"),
        ROW("Nr\xff\xff\xff\x7f.", PICKLE_DATA, "memo slot 2147483647 after 0 others"),
        ROW("Nr\xff\xff\xff\xff.", PICKLE_DATA, "memo slot -1"),
        ROW("X\xff\xff\xff\x7f" "a.", PICKLE_DATA, "a text of 2147483647 bytes, 2 are there"),
        ROW("\x8d\xff\xff\xff\xff\xff\xff\xff\xff" "a.", PICKLE_DATA, "a text of 18446744073709551615 bytes"),
        ROW("\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", PICKLE_DATA, "18446744073709551615 bytes announced, 2 are there"),
        ROW("\x80\x09N.", PICKLE_DATA, "protocol 9 found, expected at most 5"),
        ROW("]q\x00h\x00" "a.", PICKLE_DATA, "a list contains itself"),
        ROW("]q\x00]q\x01h\x00" "ah\x01" "a.", PICKLE_DATA, "the stack holds nothing|values|a list contains itself"),
        ROW("(K\x01K\x01" "d.", PICKLE_DATA, ""),
        ROW("(U\x01" "aK\x01U\x01" "aK\x02" "d.", PICKLE_DATA, "has the key \"a\" twice"),
        ROW("(K\x01" "d.", PICKLE_DATA, "1 values found, expected pairs"),
        ROW("NK\x01" "a.", PICKLE_DATA, "values are put into None, expected a list"),
        ROW("NN.", PICKLE_DATA, "the stack holds 2, expected one value"),
        ROW("(.", PICKLE_DATA, "STOP: the stack holds a mark"),
        ROW("(a.", PICKLE_DATA, "a mark where a value was expected"),
        ROW("t.", PICKLE_DATA, "the stack holds no mark"),
        ROW("I12x\n.", PICKLE_DATA, "\"12x\" found, expected a whole number"),
        ROW("I9223372036854775808\n.", PICKLE_DATA, "expected a whole number of 64 bits"),
        ROW("F1.5.\n.", PICKLE_DATA, "\"1.5.\" found, expected a number"),
        ROW("S'abc\n.", PICKLE_DATA, "expected a text in quotes"),
        ROW("S'\\q'\n.", PICKLE_DATA, "an escape that is none of"),
        ROW("V\\u12\n.", PICKLE_DATA, "\\u without its 4 digits"),
        ROW("I12", PICKLE_DATA, "its line has no end"),
        ROW("cposix\nsystem\nNR.", PICKLE_CHECKPOINT, "arguments are None, expected a tuple"),
        ROW("NNb.", PICKLE_CHECKPOINT, "state is given to None"),
        ROW("NN\x93.", PICKLE_CHECKPOINT, "None and None found"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err e = {0};
        pickle *p = pickle_parse((const unsigned char *)bad[i].bytes, bad[i].length, "X", bad[i].rules, NULL, &e);
        if (!*bad[i].wanted || strchr(bad[i].wanted, '|')) { /* let through, or refused by any of several */
            pickle_free(p);
            continue;
        }
        if (p) fail_msg("%zu was let through, expected: %s", i, bad[i].wanted);
        if (!strstr(e.text, bad[i].wanted)) fail_msg("\"%s\" does not say \"%s\"", e.text, bad[i].wanted);
    }
}

static void nesting_ends(void **state) {
    (void)state;
    static char deep[40003];
    err e = {0};
    memset(deep, '(', 20000);
    memset(deep + 20000, 't', 20000);
    deep[40000] = '.';
    assert_null(pickle_parse((unsigned char *)deep, 40001, "X", PICKLE_DATA, NULL, &e));
    assert_non_null(strstr(e.text, "nested deeper than 100"));
    memset(deep, ']', 101); /* 101 lists: the innermost stands 100 deep */
    memset(deep + 101, 'a', 100);
    deep[201] = '.';
    pickle *p = opened(deep, 202, PICKLE_DATA);
    pickle_free(p);
    memset(deep, ']', 102);
    memset(deep + 102, 'a', 101);
    deep[203] = '.';
    assert_null(pickle_parse((unsigned char *)deep, 204, "X", PICKLE_DATA, NULL, &e));
}

static void no_memory(void **state) {
    (void)state;
    for (size_t n = 1; n < 200; n++) {
        err e = {0};
        mem_fail_after(n);
        pickle *p = PARSE(TEXT, PICKLE_DATA, &e);
        mem_fail_after(0);
        if (p) {
            pickle_free(p);
            return;
        }
        assert_non_null(strstr(e.text, "not enough memory"));
    }
    fail_msg("never enough memory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_both_protocols), cmocka_unit_test(escapes),
        cmocka_unit_test(calls_are_not_followed),   cmocka_unit_test(one_after_another),
        cmocka_unit_test(refusals),                 cmocka_unit_test(nesting_ends),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
