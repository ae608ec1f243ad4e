# maskinv: MaskInversion in plain C.
#
#   make                 ./maskinv, ./train, libmaskinv.a and libmaskinv.so.1
#   make test            every test, ends in "N passed, N failed"
#   make backends        which BLAS can be had here, and which one is taken
#   make BLAS=none       our own products instead of OpenBLAS (openblas, cblas, accelerate, none)
#   make DOUBLE=1        all of it in double: build/openblas-double/maskinv and train
#   make asan            ./maskinv-asan, with AddressSanitizer and UBSan
#   make fuzz            ./fuzz-*, libFuzzer targets (needs clang)
#   make bench           the speed figures, as ratios to this machine's sgemm rate
#   make bench-papers    what a picture of the papers' tables costs
#   make scaling         seconds and memory as the work grows, drawn into docs/scaling.png (minutes)
#   make gradients       time and memory of LeGrad's three gradients (minutes)
#   make demo            invert on a scene with the default model, into demo/
#   make firmware        the same on two chips without an operating system, under qemu (firmware/README.md)
#   make model           train the default model again (hours)
#   make model-all       … and what is trained beside it, minutes each (sh weights/systems lists them)
#   make cross           the whole program for eight other machines, as a table (docs/PORTING.md)
#   make web-serve       the page of docs/demo, in a browser; make web builds it again (docs/WEB.md)
#   make dist            a tarball; make reproducible, Debian's packages and others': packaging/packages.mk
#   make install         into PREFIX (/usr/local; DESTDIR is obeyed): programs, library, headers, maskinv.pc, manual;
#                        completions; make uninstall takes all of it away
#
# Debian: build-essential pkg-config libopenblas-dev libstb-dev libcjson-dev libutf8proc-dev zlib1g-dev libcmocka-dev

# ---- what to build with --------------------------------------------------------------------------
PREFIX     ?= /usr/local
PKG_CONFIG ?= pkg-config
has         = $(shell $(PKG_CONFIG) --exists $(1) 2>/dev/null && echo yes)

# Which BLAS: OpenBLAS where there is one, Apple's on Apple's, else our own.
ifeq ($(shell uname -s),Darwin)
BLAS ?= accelerate
else
BLAS ?= $(if $(call has,openblas),openblas,none)
endif

BLAS_FLAGS_openblas   = -DUSE_OPENBLAS $(call system,openblas)
BLAS_LIBS_openblas    = $(shell $(PKG_CONFIG) --libs openblas)
BLAS_FLAGS_cblas      = -DUSE_CBLAS
# the first that links: Debian's ATLAS has -lcblas, its reference BLAS and BLIS a -lblas (blas.pc) with C's names in it
BLAS_LIBS_cblas       = $(or $(shell for l in "$$($(PKG_CONFIG) --libs cblas 2>/dev/null)" -lcblas "-lcblas -latlas" \
    "$$($(PKG_CONFIG) --libs blas 2>/dev/null)" -lblas -lblis; do [ -n "$$l" ] && \
    echo 'char cblas_sgemm(void); char cblas_dgemm(void); int main(void) { return cblas_sgemm() + cblas_dgemm(); }' | \
    $(CC) -w -x c - -o /dev/null $$l 2>/dev/null && echo "$$l" && break; done),-lcblas)
BLAS_FLAGS_accelerate = -DUSE_ACCELERATE
BLAS_LIBS_accelerate  = -framework Accelerate
BLAS_FLAGS_none       =
BLAS_LIBS_none        =
ifeq ($(filter $(BLAS),openblas cblas accelerate none),)
$(error BLAS=$(BLAS): expected openblas, cblas, accelerate or none)
endif

# Libraries' headers as system headers: their warnings are not ours.
system = $(patsubst -I%,-isystem %,$(shell $(PKG_CONFIG) --cflags-only-I $(1) 2>/dev/null))
STB    = $(or $(call system,stb),-isystem /usr/include/stb)
CJSON  = $(or $(call system,libcjson),-isystem /usr/include/cjson)

# ---- flags, and why --------------------------------------------------------------------------------
# -O3            loops are vectorised; kernels.c compiles its own for several instruction sets, so no -march here
# -fopenmp-simd  `#pragma omp simd` on reductions, instead of -ffast-math for everything: NaN stays NaN
# -Wconversion   no number changes its width unasked
# LOOPS          for the files of hot loops: fused multiply-add; no errno, no traps asked of their arithmetic. NaN and
#                infinity keep their meaning (this is not -ffast-math), but exp and relu become vector code
LOOPS     = -ffp-contract=fast -fno-math-errno -fno-trapping-math
# PIC            one set of objects for the programs and for the shared library, whose own calls stay inside
PIC       = -fPIC -fno-semantic-interposition
OPTIMISE ?= -O3
# WERROR=1       warnings are errors: in CI (which says CI=true), not where a newer compiler knows more of them
WARN      = -Wall -Wextra -Wshadow -Wconversion $(if $(WERROR)$(filter true 1,$(CI)),-Werror)
CFLAGS   ?= $(OPTIMISE) -g
ALL_FLAGS = -std=c11 $(CFLAGS) $(PIC) -fopenmp-simd $(WARN) $(SANITIZE) \
            $(REAL) $(BUILTIN) $(if $(REPRODUCIBLE),-ffile-prefix-map=$(CURDIR)=.) -I. $(CPPFLAGS) $(STB) $(CJSON)
LIBS      = $(BLAS_LIBS_$(BLAS)) $(shell $(PKG_CONFIG) --libs libcjson libutf8proc zlib) -lpthread -lm

# Variants have a folder each: build/openblas, build/none, build/openblas-double, build/openblas-asan...
VARIANT   = $(BLAS)$(if $(DOUBLE),-double)$(if $(SAN),-$(SAN))
B         = build/$(VARIANT)

# DOUBLE=1: the programs in double, whose rounding hides no wrong constant: for tests, and to see what rounding does. They
# stay in $(B).
ifdef DOUBLE
REAL = -DMASKINV_DOUBLE
endif
ifeq ($(SAN),asan)
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPTIMISE = -O1
else ifeq ($(SAN),tsan)
CC       = clang
SANITIZE = -fsanitize=thread -DNO_CLONES
OPTIMISE = -O1
else ifeq ($(SAN),fuzz)
CC       = clang
SANITIZE = -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPTIMISE = -O1
endif

# The default model is linked into the binary; a tree without one (before `make model`) still builds.
MODEL = weights/default/open_clip_model.safetensors
ifeq ($(wildcard $(MODEL)),)
BUILTIN = -DNO_BUILTIN_MODEL
else
BUILTIN = $(foreach p,captioner generator,$(if $(wildcard weights/default/$(p).safetensors),,-DNO_BUILTIN_$(shell echo $(p) | tr a-z A-Z)))
endif

# V=1 shows the whole commands.
Q   = $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)")

# clang warns of every `omp simd` loop that it cannot vectorise; that is no fault
ifneq ($(findstring clang,$(shell $(CC) --version 2>/dev/null)),)
WARN += -Wno-pass-failed
endif

# ---- what there is -----------------------------------------------------------------------------------
# The core: touches no file, prints nothing, allocates nothing. Only gemm.c knows the BLAS.
CORE    = arena gemm gemm_own kernels autograd ops_products ops_rows ops_each clip clip_image clip_block clip_resnet clip_text \
          map explain gradient factored chained decomposed jacobian compact taped methods methods_dense pamr maskinv
# What stands above the core, a folder each. A room knows the core and the rooms before it, never a later one.
ROOMS   = os sys files text models parts pictures masks face data regions anomaly segment scenes eval training cli
# All sources but the two mains are one library: ./maskinv, ./train and the tests take from it what they need.
MAINS   = cli/main training/train
# Of os/ one file alone: the system's that is built for.
SYSTEM ?= posix
SOURCES = $(filter-out $(MAINS) $(filter-out os/$(SYSTEM),$(basename $(wildcard os/*.c))),$(basename $(wildcard *.c $(ROOMS:%=%/*.c))))
# In double without face/, whose numbers are float by contract; for other machines without ./train (cross/).
OBJECTS = $(patsubst %,$(B)/%.o,$(filter-out $(if $(DOUBLE),face/%) $(if $(CROSS),training/%),$(SOURCES)))
LIB     = $(B)/libmaskinv.a

PROGRAMS  = maskinv train
LIBRARIES = $(if $(filter Darwin,$(shell uname -s)),,libmaskinv.a libmaskinv.so.1)
ifdef DOUBLE
all: $(PROGRAMS:%=$(B)/%)
$(PROGRAMS) $(LIBRARIES): always
	@echo "$@ is float's; DOUBLE=1 makes $(PROGRAMS:%=$(B)/%)" >&2; false
else
all: $(PROGRAMS) $(LIBRARIES)
$(PROGRAMS): %: $(B)/%
	cp -f $< $@
$(LIBRARIES): %: $(B)/lib/%
	cp -f $< $@
endif

$(B)/maskinv: $(B)/cli/main.o $(LIB)
	$(call say,link $@)
	$(Q)$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/train: $(B)/training/train.o $(LIB)
	$(call say,link $@)
	$(Q)$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LIBS)
$(LIB): $(OBJECTS)
	@rm -f $@
	$(Q)$(AR) rcs $@ $(OBJECTS)

# ---- the library ---------------------------------------------------------------------------------------
# The core and the rooms up to face/, as one object in which the core's names have their prefix (face/headers) and all
# others are local; exports.txt is what is left. Not on macOS, whose binutils cannot rename.
SO       = libmaskinv.so.1
IN_LIB   = $(filter $(CORE) $(foreach r,os sys files text models pictures masks face,$(r)/%),$(SOURCES))
L        = $(B)/lib
OBJCOPY ?= objcopy
$(L)/maskinv.o: $(IN_LIB:%=$(B)/%.o) face/headers $(wildcard *.h)
	$(call say,link $@)
	@mkdir -p $(L)
	$(Q)sh face/headers $(L)/core $(filter $(CORE:%=$(B)/%.o),$^)
	$(Q)(cat $(L)/core/exports.txt; sed -n 's/^[a-z].*[ *]\(mi_[a-z_]*\)(.*/\1/p' face/face.h) >$(L)/exports.txt
	$(Q)(echo '{ global:'; sed 's/$$/;/' $(L)/exports.txt; echo 'local: *;'; echo '};') >$(L)/exports.map
	$(Q)$(CC) $(SANITIZE) -r -nostdlib -o $(L)/all.o $(filter %.o,$^)
	$(Q)$(OBJCOPY) --redefine-syms=$(L)/core/symbols.txt $(L)/all.o
	$(Q)$(OBJCOPY) --keep-global-symbols=$(L)/exports.txt $(L)/all.o $@
	@rm -f $(L)/all.o
$(L)/libmaskinv.a: $(L)/maskinv.o
	@rm -f $@
	$(Q)$(AR) rcs $@ $<
$(L)/$(SO): $(L)/maskinv.o
	$(Q)$(CC) $(SANITIZE) $(LDFLAGS) -shared -Wl,-soname,$(SO) -Wl,--version-script=$(L)/exports.map -o $@ $< $(LIBS)

# Objects are made again when their flags change (another CC or CFLAGS, a model that appeared). flags.txt does not name what
# is some file's own: make would hand that on to flags.txt, and what it says would hang on who asks first.
$(B)/%.o: %.c $(B)/flags.txt
	$(call say,cc   $@)
	$(Q)$(CC) $(ALL_FLAGS) $(OF_ITS_OWN) -MMD -MP -c -o $@ $<
# Only os/ and the tests ask the system for more than C has.
$(B)/os/%.o $(B)/test/%.o: OF_ITS_OWN += -D_DEFAULT_SOURCE -D_POSIX_C_SOURCE=200809L
$(B)/gemm.o: OF_ITS_OWN += $(BLAS_FLAGS_$(BLAS)) $(LOOPS)
$(B)/gemm_own.o $(B)/kernels.o $(B)/map.o $(B)/pamr.o $(B)/methods_dense.o $(B)/explain.o $(B)/gradient.o $(B)/factored.o $(B)/chained.o $(B)/decomposed.o $(B)/jacobian.o $(B)/compact.o $(B)/clip_resnet.o $(B)/taped.o: OF_ITS_OWN += $(LOOPS)
$(B)/test/x_speed.o: OF_ITS_OWN += $(LOOPS)
$(B)/models/model.o: $(wildcard weights/default/*)
$(B)/flags.txt: always
	@mkdir -p $(B)/test $(ROOMS:%=$(B)/%)
	@echo '$(CC) $(ALL_FLAGS) $(LOOPS) $(BLAS_FLAGS_$(BLAS))' | cmp -s - $@ || echo '$(CC) $(ALL_FLAGS) $(LOOPS) $(BLAS_FLAGS_$(BLAS))' >$@
-include $(wildcard $(B)/*.d $(B)/*/*.d)
.PHONY: firmware firmware-table always all test programs backends asan fuzz bench bench-papers scaling gradients demo model model-all install uninstall clean man completions
.SECONDARY:

backends:
	@echo "openblas:   $(if $(call has,openblas),$(shell $(PKG_CONFIG) --modversion openblas),not found)"
	@echo "accelerate: $(if $(filter Darwin,$(shell uname -s)),yes,only on macOS)"
	@echo "cblas:      any other library with cblas.h, by BLAS=cblas"
	@echo "none:       always (our own products)"
	@echo "taken:      $(BLAS)"

# ---- tests ---------------------------------------------------------------------------------------------
# Each test/test_*.c is one cmocka program; test/x_*.c are shared by them. Three builds: the one in use, the one in
# double, and the core with our own products. With sanitizers: what reads others' files, and the fuzz targets, which
# replay their corpus.
TESTS     = $(patsubst test/%.c,%,$(wildcard test/test_*.c))
SHARED    = $(B)/test/libshared.a
IN_DOUBLE = $(filter test_autograd test_families test_explain test_methods test_maskinv test_caption test_systems test_alpha test_anomaly \
            test_checkpoint test_cli test_containers test_convert test_dense test_embed test_eval test_explain_cli test_files test_image test_masks \
            test_measures test_pixels test_regions test_segment test_tokenizers,$(TESTS))
IN_NONE   = $(filter test_memory test_gemm test_kernels test_autograd test_clip test_explain test_methods test_maskinv,$(TESTS))
FUZZ      = $(patsubst test/%.c,%,$(wildcard test/fuzz_*.c))
IN_ASAN   = $(filter test_containers test_families test_pickle test_tokenizers,$(TESTS))
CMOCKA    = $(shell $(PKG_CONFIG) --libs cmocka)

$(B)/test/test_%: $(B)/test/test_%.o $(SHARED) $(LIB)
	$(call say,link $@)
	$(Q)$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(CMOCKA) $(LIBS)
$(B)/test/threads: $(B)/test/threads.o $(IN_LIB:%=$(B)/%.o)
	$(call say,link $@)
	$(Q)$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/test/fuzz_%: $(B)/test/fuzz_%.o $(B)/test/replay.o $(LIB)
	$(call say,link $@)
	$(Q)$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LIBS)
$(SHARED): $(patsubst test/%.c,$(B)/test/%.o,$(wildcard test/x_*.c))
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^
programs: $(WANTED)

run_in = $(addprefix build/$(1)/test/,$(2))
test: all
	@$(MAKE) --no-print-directory programs WANTED="$(call run_in,$(BLAS),$(TESTS))"
	@$(if $(IN_DOUBLE),$(MAKE) --no-print-directory programs DOUBLE=1 WANTED="build/$(BLAS)-double/maskinv $(call run_in,$(BLAS)-double,$(IN_DOUBLE))")
	@$(if $(IN_NONE),$(MAKE) --no-print-directory programs BLAS=none WANTED="$(call run_in,none,$(IN_NONE))")
	@$(if $(shell command -v node 2>/dev/null),$(MAKE) --no-print-directory portable)
	@$(if $(FUZZ),$(MAKE) --no-print-directory programs SAN=asan WANTED="$(call run_in,$(BLAS)-asan,$(IN_ASAN) $(FUZZ))")
	@sh test/run $(wildcard test/test_*.sh) $(call run_in,$(BLAS),$(TESTS)) $(call run_in,$(BLAS)-double,$(IN_DOUBLE)) \
	    $(call run_in,none,$(IN_NONE)) $(call run_in,$(BLAS)-asan,$(IN_ASAN) $(FUZZ))

# ---- sanitizers, fuzzing ------------------------------------------------------------------------------------
asan:
	@$(MAKE) --no-print-directory SAN=asan build/$(BLAS)-asan/maskinv
	cp -f build/$(BLAS)-asan/maskinv maskinv-asan

ifeq ($(shell command -v clang 2>/dev/null),)
fuzz:
	@echo "fuzz: skipped, no clang here"
else
fuzz:
	@$(MAKE) --no-print-directory SAN=fuzz BLAS=none programs WANTED="$(FUZZ:%=build/none-fuzz/%)"
	@$(foreach f,$(FUZZ),cp build/none-fuzz/$(f) $(subst _,-,$(f));)
	@echo "made: $(subst _,-,$(FUZZ))    run: ./fuzz-npy -max_total_time=60 /tmp/new-corpus test/corpus/npy"
endif
$(B)/fuzz_%: $(B)/test/fuzz_%.o $(LIB)
	$(call say,link $@)
	$(Q)clang -fsanitize=fuzzer $(SANITIZE) -o $@ $^ $(LIBS)

# ---- chips without an operating system ---------------------------------------------------------------------------
# firmware stands outside the rooms: what is on the chip knows the core alone, and pack.c is a command.
$(B)/firmware/pack.o $(B)/firmware/flash.o: $(B)/firmware/%.o: firmware/%.c $(B)/flags.txt
	@mkdir -p $(B)/firmware
	$(call say,cc   $@)
	$(Q)$(CC) $(ALL_FLAGS) -MMD -MP -c -o $@ $<
$(B)/firmware/pack: $(B)/firmware/pack.o $(LIB)
	$(call say,link $@)
	$(Q)$(CC) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(LIBS)
firmware: all $(B)/firmware/pack
	VARIANT=$(VARIANT) sh firmware/demo.sh
firmware-table: all $(B)/firmware/pack
	VARIANT=$(VARIANT) sh firmware/table.sh build/firmware

# ---- figures, pictures, the model --------------------------------------------------------------------------------
bench: all $(B)/test/bench
	$(B)/test/bench
bench-papers: all $(B)/test/bench_papers
	$(B)/test/bench_papers
scaling: all $(B)/test/scaling
	$(B)/test/scaling docs/scaling.png
gradients: $(B)/test/gradients
	$(B)/test/gradients
$(B)/test/bench $(B)/test/bench_papers $(B)/test/gradients $(B)/test/scaling: $(B)/test/%: $(B)/test/%.o $(SHARED) $(LIB)
	$(call say,link $@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

demo: all
	sh cli/demo.sh

# The default model, then what is trained beside it; sh weights/systems lists it with seed and minutes.
model-all: model
	$(MAKE) train
	sh weights/systems
	sh weights/systems all
model: all
	sh weights/recipe

man: $(PROGRAMS:%=docs/%.1)
docs/%.1: % always
	./$< --man >$@.tmp-man && mv $@.tmp-man $@

# What bash and zsh offer behind Tab (also: . build/completions/maskinv)
completions: maskinv
	@mkdir -p build/completions
	./maskinv --completions bash >build/completions/maskinv
	./maskinv --completions zsh >build/completions/_maskinv

VERSION    = $(shell sed -n 's/^.define MASKINV_VERSION "\(.*\)"/\1/p' face/face.h)

include web/web.mk
include cross/cross.mk
include packaging/packages.mk

LIBDIR     = $(PREFIX)/lib
INCLUDE    = $(DESTDIR)$(PREFIX)/include/maskinv
MANUALS    = $(wildcard docs/*.1)
define PC
prefix=$(PREFIX)
libdir=$(LIBDIR)
includedir=$${prefix}/include

Name: maskinv
Description: MaskInversion: embeddings of image regions by CLIP explanations
Version: $(VERSION)
Libs: -L$${libdir} -lmaskinv
Libs.private: $(strip $(LIBS))
Cflags: -I$${includedir}
endef
export PC
BASH_TABS  = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH_TABS   = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
install: all completions
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(BASH_TABS) $(ZSH_TABS)
	install -m 755 maskinv train $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(MANUALS) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 build/completions/maskinv $(BASH_TABS)
	install -m 644 build/completions/_maskinv $(ZSH_TABS)
ifneq ($(LIBRARIES),)
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(INCLUDE)/core
	install -m 644 libmaskinv.a $(DESTDIR)$(LIBDIR)
	install -m 755 $(SO) $(DESTDIR)$(LIBDIR)
	ln -sf $(SO) $(DESTDIR)$(LIBDIR)/libmaskinv.so
	install -m 644 face/face.h $(INCLUDE)/maskinv.h
	install -m 644 $(L)/core/*.h $(INCLUDE)/core
	echo "$$PC" >$(DESTDIR)$(LIBDIR)/pkgconfig/maskinv.pc
endif
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/maskinv $(DESTDIR)$(PREFIX)/bin/train
	rm -f $(MANUALS:docs/%=$(DESTDIR)$(PREFIX)/share/man/man1/%) $(BASH_TABS)/maskinv $(ZSH_TABS)/_maskinv
	rm -f $(DESTDIR)$(LIBDIR)/libmaskinv.a $(DESTDIR)$(LIBDIR)/$(SO) $(DESTDIR)$(LIBDIR)/libmaskinv.so
	rm -f $(DESTDIR)$(LIBDIR)/pkgconfig/maskinv.pc
	rm -rf $(INCLUDE)
clean:
	rm -rf build maskinv maskinv-asan train fuzz-* libmaskinv.a libmaskinv.so.1 python/build python/*.egg-info
