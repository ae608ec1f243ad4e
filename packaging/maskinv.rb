# maskinv.rb - a formula for Homebrew, in a tap of your own:
#
#     make dist
#     brew tap-new you/own
#     cp packaging/maskinv.rb "$(brew --repository you/own)/Formula"
#     HOMEBREW_MASKINV_DIST=$PWD/build/maskinv-1.0.0.tar.gz brew install --build-from-source you/own/maskinv
#
# Not tested: no Homebrew and no Mac were at hand. Written by Homebrew's manual, from what Debian's packages need. The
# tarball is your own, so no checksum of it stands here. On a Mac the library is not built (docs/PORTING.md).
class Maskinv < Formula
  desc "Embeddings of image regions by MaskInversion"
  url "file://#{ENV.fetch("HOMEBREW_MASKINV_DIST", "/maskinv-1.0.0.tar.gz")}"
  version "1.0.0"
  license "MIT"

  depends_on "pkgconf" => :build
  depends_on "cjson"
  depends_on "utf8proc"
  uses_from_macos "zlib"

  on_linux do
    depends_on "openblas"
  end

  # headers alone; Homebrew has no formula of them
  resource "stb" do
    url "https://github.com/nothings/stb.git", revision: "5736b15f7ea0ffb08dd38af21067c314d6a3aae9"
  end

  def install
    (buildpath/"stb").install resource("stb")
    system "make", "install", "STB=-isystem #{buildpath}/stb", "PREFIX=#{prefix}"
  end

  test do
    system bin/"maskinv", "scenes", "--kind", "drawn", "--objects", "2", "--count", "1", "--seed", "1", "--size", "96", "-o", "set"
    system bin/"maskinv", "invert", "-i", "set/images/000000.png", "-k", "set/masks/000000_0.png", "-o", "out"
    assert_path_exists testpath/"out/embeddings.npy"
  end
end
