"""pip install ./python: the library is built in the checkout around this folder (make) and copied into the package; where
there is no checkout, or with MASKINV_SYSTEM=1, an installed libmaskinv is used."""
import os
import shutil
import subprocess

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
NAME = "libmaskinv.so.1"


class build(build_py):
    def run(self):
        super().run()
        if os.environ.get("MASKINV_SYSTEM") or not os.path.exists(os.path.join(ROOT, "face", "face.h")):
            return
        if not os.path.exists(os.path.join(ROOT, NAME)):
            subprocess.check_call(["make", "-C", ROOT, "-j", str(os.cpu_count() or 1), NAME])
        shutil.copy(os.path.join(ROOT, NAME), os.path.join(self.build_lib, "maskinv", NAME))


setup(name="maskinv", version="1.0.0", description="MaskInversion: embeddings of image regions",
      packages=["maskinv"], package_data={"maskinv": ["py.typed"]}, python_requires=">=3.8",
      install_requires=["numpy"], cmdclass={"build_py": build}, license="MIT")
