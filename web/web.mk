# web.mk - the library as WebAssembly, the Node module and the page, by Debian's emscripten (see docs/WEB.md).
#
#   make web             web/node/ and docs/demo/ from the sources (committed: needed only after changes)
#   make web-serve       docs/demo/ on http://localhost:8000, by python3 or busybox
EMCC     ?= emcc
W         = build/wasm
LIBRARIES_AT = build/libraries
W_SOURCES = $(filter-out os/%,$(IN_LIB)) os/wasm
W_LOOPS   = gemm kernels map explain gradient factored chained decomposed jacobian taped
# -O3 and LOOPS as everywhere; -msimd128: four floats at a time, in every browser since 2023
W_FLAGS   = -std=c11 -O3 -msimd128 -fopenmp-simd $(WARN) -Wno-pass-failed -DNO_BUILTIN_MODEL -DUTF8PROC_STATIC -I. $(CPPFLAGS) $(STB) \
            -isystem $(LIBRARIES_AT) -isystem $(LIBRARIES_AT)/utf8proc -isystem $(LIBRARIES_AT)/zlib
W_OTHERS  = cjson/cJSON utf8proc/utf8proc $(addprefix zlib/,adler32 crc32 inffast inflate inftrees zutil deflate trees uncompr compress)
W_OBJECTS = $(W_SOURCES:%=$(W)/%.o) $(W_OTHERS:%=$(W)/%.o)
# Everything that face.h declares, and memory for what is handed over.
open      = (
comma     = ,
empty     =
W_EXPORTS = _malloc _free $(shell sed -n 's/^[a-z].*[ *]\(mi_[a-z_]*\)$(open).*/_\1/p' face/face.h)
W_LINK    = -O3 -s STANDALONE_WASM=1 --no-entry -s ALLOW_MEMORY_GROWTH=1 -s MAXIMUM_MEMORY=4GB -s TOTAL_STACK=1MB -s ERROR_ON_UNDEFINED_SYMBOLS=0 \
            -s EXPORTED_FUNCTIONS=$(subst $(empty) $(empty),$(comma),$(strip $(W_EXPORTS)))

$(LIBRARIES_AT)/zlib/zlib.h:
	sh web/libraries $(LIBRARIES_AT)
$(W_SOURCES:%=$(W)/%.o): $(W)/%.o: %.c $(W)/flags.txt | $(LIBRARIES_AT)/zlib/zlib.h
	$(call say,emcc $@)
	@mkdir -p $(@D)
	$(Q)$(EMCC) $(W_FLAGS) $(if $(filter $(W_LOOPS),$*),$(LOOPS)) -MMD -MP -c -o $@ $<
$(W_OTHERS:%=$(W)/%.o): $(W)/%.o: $(W)/flags.txt | $(LIBRARIES_AT)/zlib/zlib.h
	$(call say,emcc $@)
	@mkdir -p $(@D)
	$(Q)$(EMCC) -O3 -w -DUTF8PROC_STATIC -DHAVE_UNISTD_H -c -o $@ $(LIBRARIES_AT)/$*.c
$(W)/flags.txt: always
	@mkdir -p $(W)
	@echo '$(EMCC) $(W_FLAGS) $(LOOPS)' | cmp -s - $@ || echo '$(EMCC) $(W_FLAGS) $(LOOPS)' >$@
$(W)/maskinv.wasm: $(W_OBJECTS) web/web.mk
	$(call say,link $@)
	$(Q)$(EMCC) $(W_LINK) -o $@ $(W_OBJECTS)
-include $(wildcard $(W)/*.d $(W)/*/*.d)
