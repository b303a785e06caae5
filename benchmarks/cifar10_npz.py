"""CIFAR-10 as the .npz that the recipes read, from images by class and exact images to judge on.

    python benchmarks/cifar10_npz.py images.zip exact.npz cifar10.npz

images.zip: the 50,000 training images, a folder a class, the k-th file of a class the k-th of it in the original order.
exact.npz: the first images of that order without loss, arrays of images (n, 32, 32, 3) and of class numbers (n,); they
become the test split, and the same images are left out of training.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def main(images: str, exact: str, target: str) -> None:
    """Write x, y (shuffled), x_test, y_test; classes by name."""
    with np.load(exact) as archive:
        arrays = [archive[name] for name in archive.files]
    judged = next(one for one in arrays if one.ndim == 4)
    numbers = next(one for one in arrays if one.ndim == 1 and len(one) == len(judged))
    left_out = np.bincount(numbers, minlength=len(LABELS))
    x, y = [], []
    with zipfile.ZipFile(images) as archive:
        for number, label in enumerate(LABELS):
            files = sorted(name for name in archive.namelist() if PurePosixPath(name).parent.name == label)
            for name in files[left_out[number] :]:
                x.append(np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")))
                y.append(label)
    order = np.random.default_rng(0).permutation(len(x))
    names = np.array(LABELS)
    np.savez(target, x=np.stack(x)[order], y=np.array(y)[order], x_test=judged, y_test=names[numbers])


if __name__ == "__main__":
    main(*sys.argv[1:4])
