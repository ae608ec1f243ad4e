# cross.mk - the whole program for other machines (docs/PORTING.md; cross/targets lists them).
#
#   make cross                         all of them, as a table: builds, runs, same numbers, size, seconds
#   make cross TARGETS="s390x musl"    some
#
# Libraries beyond C's own (cJSON, utf8proc, zlib) are built for the target from Debian's sources, which web/libraries
# fetches into build/libraries, or a user puts there by hand. What is absent is skipped, and said.
cross:
	@sh cross/table.sh $(TARGETS)
.PHONY: cross

# Of a target's own build, as table.sh asks for it: B, CC, AR, SYSTEM and CROSS are given.
X_LIBRARIES = $(W_OTHERS:%=$(B)/libraries/%.o)
$(B)/libraries/%.o: $(LIBRARIES_AT)/%.c $(B)/flags.txt
	@mkdir -p $(@D)
	$(Q)$(CC) $(OPTIMISE) -w -DUTF8PROC_STATIC -DHAVE_UNISTD_H -c -o $@ $<
$(B)/libraries.a: $(X_LIBRARIES)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
ifdef CROSS
$(B)/maskinv: | $(B)/libraries.a
endif
