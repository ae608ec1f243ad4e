# default.nix - for Nix on Linux:
#
#     nix-build packaging                       # result/bin/maskinv, result/lib/libmaskinv.so
#     nix-env -f packaging -i                   # into your profile
#
# Not tested: no Nix was at hand. Written by the manual of nixpkgs, from what Debian's packages need.
{ pkgs ? import <nixpkgs> { } }:
pkgs.stdenv.mkDerivation {
  pname = "maskinv";
  version = "1.0.0";
  src = pkgs.lib.cleanSource ./..;

  nativeBuildInputs = [ pkgs.pkg-config ];
  buildInputs = [ pkgs.openblas pkgs.cjson pkgs.utf8proc pkgs.zlib pkgs.stb ];

  enableParallelBuilding = true;
  preBuild = "make clean"; # what was built in the checkout
  makeFlags = [ "PREFIX=$(out)" "BLAS=openblas" ];

  meta = {
    description = "Embeddings of image regions by MaskInversion";
    license = pkgs.lib.licenses.mit;
    platforms = pkgs.lib.platforms.linux;
    mainProgram = "maskinv";
  };
}
