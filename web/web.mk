# web.mk - the library as WebAssembly, the Node module and the page, by Debian's emscripten (see docs/WEB.md).
#
#   make web             web/node/ and docs/demo/ from the sources (committed: needed only after changes)
#   make web-serve       docs/demo/ on http://localhost:8000, by python3 or busybox
#   make web-bench       speed in node beside the native portable build's, in Chromium, and what is fetched (docs/WEB.md)
EMCC     ?= emcc
W         = build/wasm
LIBRARIES_AT = build/libraries
W_SOURCES = $(filter-out os/%,$(IN_LIB)) os/wasm
W_LOOPS   = gemm gemm_own kernels map explain gradient factored chained decomposed jacobian compact taped
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
	$(Q)$(EMCC) $(W_FLAGS) $(if $(filter $(W_LOOPS),$*),$(LOOPS)) $(if $(filter os/%,$*),-mbulk-memory) -MMD -MP -c -o $@ $<
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

# ---- the page, and the package of node -----------------------------------------------------------------
# Committed as built, so that it can be opened and served without emscripten; sources.txt says of which sources it is.
DEMO      = docs/demo
# The generator's scenes that the page begins with: three of the drawn, three things each, that the model reads well.
SCENES_OF = 15 21 16
PAGE      = $(wildcard web/page/*)
.PHONY: web web-serve web-bench portable node
web: $(DEMO)/sources.txt
$(DEMO)/sources.txt: $(W)/maskinv.wasm web/maskinv.mjs web/scenes.mjs web/web.mk $(PAGE) maskinv
	@mkdir -p $(DEMO)/model $(DEMO)/scenes
	cp $(PAGE) web/maskinv.mjs $(W)/maskinv.wasm $(DEMO)
	cp weights/default/open_clip_config.json weights/default/open_clip_model.safetensors weights/default/merges.txt $(DEMO)/model
	./maskinv scenes --kind drawn --objects 3 --count 22 --seed 1 --size 384 -o $(W)/scenes >/dev/null
	node web/scenes.mjs $(W)/scenes $(DEMO)/scenes $(SCENES_OF)
	cat LICENSE $(LIBRARIES_AT)/cjson/LICENSE $(LIBRARIES_AT)/utf8proc/LICENSE.md $(LIBRARIES_AT)/zlib/LICENSE web/licences.txt >$(DEMO)/licences.txt
	@sh web/sources $(W_SOURCES:%=%.c) $(wildcard web/*.mjs web/*.mk web/page/*) scenes/things.h >$@
# Any server of files will do: a page opened as a file may not start its worker.
PORT     ?= 8000
web-serve:
	@echo "http://localhost:$(PORT)/   (Ctrl-C ends it)"
	@cd $(DEMO) && if command -v python3 >/dev/null; then python3 -m http.server --bind 127.0.0.1 $(PORT) 2>/dev/null; \
	    else busybox httpd -f -p 127.0.0.1:$(PORT); fi
# The program as any processor of its kind runs it: 4 floats at a time, no BLAS.
portable:
	@$(MAKE) --no-print-directory BLAS=none CPPFLAGS="$(CPPFLAGS) -DNO_CLONES" B=build/portable build/portable/maskinv
web-bench: portable
	@$(MAKE) --no-print-directory BLAS=none build/none/maskinv
	@echo "page, module and model: $$(cat $(DEMO)/*.* $(DEMO)/model/* | gzip -9 | wc -c) bytes, compressed"
	@BROWSER=$$(command -v chromium || command -v chromium-browser || command -v google-chrome) node test/web.mjs bench build
# The npm package, from the page's files: npm install ./build/node
node:
	@mkdir -p build/node/model
	cp web/node/* $(DEMO)/maskinv.mjs $(DEMO)/maskinv.wasm $(DEMO)/licences.txt build/node
	cp $(DEMO)/model/* build/node/model
