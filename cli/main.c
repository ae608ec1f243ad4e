/* main.c - where the process starts; the commands are in cmd_*.c, what they share in cli.c. */
#include "cli/cli.h"

int main(int argc, char **argv) {
    mem_hook_cjson();
    return cli_main(argc, argv);
}
