# packages.mk - what others install: a tarball, packages made of it, builds that give the same bytes anywhere.
#
#   make dist            build/maskinv-VERSION.tar.gz: what is committed; it builds and tests by itself
#   make reproducible    builds twice, in folders of different names, and compares
#   dpkg-buildpackage -us -uc -b      Debian's packages (debian/)
#   maskinv.rb, default.nix           Homebrew and Nix: texts that nobody has built by
#
# REPRODUCIBLE=1 keeps the folder's name out of what debuggers are told, the only thing that differs between two builds.
DIST = maskinv-$(VERSION)
dist:
	@mkdir -p build
	git archive --format=tar --prefix=$(DIST)/ HEAD | gzip -9n >build/$(DIST).tar.gz
	@ls -l build/$(DIST).tar.gz
reproducible:
	@sh packaging/reproducible.sh "$(CC)" "$(BLAS)"
.PHONY: dist reproducible
