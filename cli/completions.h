/* completions.h - what a shell offers behind Tab: commands, their flags, a flag's choices, files where a file is expected.
 *
 *     completions_bash(commands, COMMANDS, stdout);    // maskinv --completions bash >/usr/share/bash-completion/completions/maskinv
 *     completions_zsh(commands, COMMANDS, stdout);     // ... zsh >.../site-functions/_maskinv
 *
 * Made from the flag tables, so that a new flag is offered without more ado. `make completions` writes both.
 */
#ifndef COMPLETIONS_H
#define COMPLETIONS_H
#include "cli/flags.h"

void completions_bash(const command *const *commands, size_t count, FILE *out);
void completions_zsh(const command *const *commands, size_t count, FILE *out);
#endif
