/* main.c - where the process starts; the commands are in cmd_*.c, what they share in cli.c. */
#include "cli/cli.h"
#include "os/os.h"

int main(int argc, char **argv) {
    argv = os_arguments(&argc, argv);
    mem_hook_cjson();
    err e = {0};
    if (!pool_products(&e)) return fprintf(stderr, "maskinv: %s\n", e.text), 2;
    return cli_main(argc, argv);
}
