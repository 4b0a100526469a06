"""Which photos show one photograph twice: cropped, mirrored, scaled, tinted or saved again.

All pairs are screened, at 16 x 16 px, by products of matrices; those that pass are laid over each
other, at 64 x 64 px, and correlated. Screening is cheap enough for millions of pairs, and blind to
what tells two cars in one studio pose apart; registration sees that, and takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.ndimage import gaussian_filter

from carlib.data.images import resize
from carlib.runtime import cores

SIDE = 64  # pixels of a thumbnail
COARSE = 16  # pixels of what is screened
BLUR = 0.7  # coarse pixels; a crop by some percent must stay small against what is left to see

# The limits were set by looking at the closest of the 27 million pairs of Stanford Cars' training
# photos. Within them (correlation 0.988 and more) both photos show one photograph, once with the
# car painted over. The closest of other pairs have 0.976: two cars in one studio pose. Drawn cars
# reach 0.988, but only when one is squeezed to four fifths, which is more than a crop by percents.
SCREENED = 0.95
CORRELATED = 0.98
CROPPED = 0.15  # share of a side by which copies may differ

_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 1e-3)
_BLOCK = 256  # photos that are compared with all others at once


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """What copies are told by: RGB pixels (h, w, 3) uint8 → greys (SIDE, SIDE) uint8.

    Blurred a little, as a copy saved badly or from few pixels has lost what is finest.
    """
    return cv2.GaussianBlur(resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), SIDE, SIDE), (3, 3), 0)


def join_near_copies(groups: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Groups (n,) of exact copies, joined where `thumbnails` (n, SIDE, SIDE) show near copies.

    Every joined group has the number of one of those it was joined from.
    """
    joined = DisjointSet(groups.tolist())
    with ThreadPoolExecutor(cores()) as pool:  # OpenCV lets go of the interpreter
        for pairs in _screened(thumbnails):
            unjoined = [
                (a, b, mirrored)
                for a, b, mirrored in pairs
                if not joined.connected(groups[a], groups[b])
            ]
            same = pool.map(lambda pair: _show_the_same(thumbnails, *pair), unjoined)
            for (a, b, _), is_copy in zip(unjoined, same, strict=True):
                if is_copy:
                    joined.merge(groups[a], groups[b])
    return np.array([joined[group] for group in groups], dtype=groups.dtype)


def _screened(thumbnails: np.ndarray) -> Iterator[list[tuple[int, int, bool]]]:
    """Lists of (row, later row, whether one of them is mirrored) that may be copies.

    A photo that is moved, zoomed or tinted a little changes along its tangents: a pair passes if
    one photo is nearly a sum of the other's (tangent distance: Simard et al. 1993).
    """
    step = SIDE // COARSE
    coarse = thumbnails.reshape(-1, COARSE, step, COARSE, step).mean((2, 4), dtype=np.float32)
    coarse = gaussian_filter(coarse, (0, BLUR, BLUR))
    tangents = _tangents(coarse)
    views = {False: _unit(coarse), True: _unit(coarse[:, :, ::-1])}
    for start in range(0, len(coarse), _BLOCK):
        block = slice(start, start + _BLOCK)
        for mirrored, photos in views.items():
            alike = np.maximum(
                _explained(photos[block], tangents[:, start:]),
                _explained(photos[start:], tangents[:, block]).T,
            )
            rows, later = np.nonzero(np.triu(alike > SCREENED**2, k=1))
            pairs = zip((start + rows).tolist(), (start + later).tolist(), strict=True)
            yield [(row, other, mirrored) for row, other in pairs]


def _explained(photos: np.ndarray, tangents: np.ndarray) -> np.ndarray:
    """R² (n, m) of each of n photos as a sum of the tangents (5, m, COARSE²) of each of m."""
    return sum((photos @ tangent.T) ** 2 for tangent in tangents)


def _tangents(coarse: np.ndarray) -> np.ndarray:
    """Orthonormal (5, n, COARSE²): each photo, and what moving and zooming it adds, both ways."""
    down, across = np.gradient(coarse, axis=(1, 2))
    place = np.linspace(-1, 1, COARSE, dtype=np.float32)
    changes = (coarse, across, down, across * place, down * place[:, None])
    bases = np.stack([change.reshape(len(coarse), -1) for change in changes], axis=-1)
    bases = np.linalg.qr(bases - bases.mean(1, keepdims=True))[0]
    return np.ascontiguousarray(np.moveaxis(bases, -1, 0))


def _unit(coarse: np.ndarray) -> np.ndarray:
    """Photos as vectors (n, COARSE²) of mean 0 and length 1; one without any contrast stays 0."""
    vectors = coarse.reshape(len(coarse), -1)
    vectors = vectors - vectors.mean(1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-3)


def _show_the_same(thumbnails: np.ndarray, row: int, other: int, mirrored: bool) -> bool:
    """Whether two photos agree where they overlap, once one is laid over the other by the affine
    map that correlates them best (Evangelidis and Psarakis 2008), and that map is a crop's.
    """
    photo, moved = thumbnails[row], thumbnails[other]
    moved = cv2.flip(moved, 1) if mirrored else moved
    matrix = np.eye(2, 3, dtype=np.float32)
    try:
        matrix = cv2.findTransformECC(photo, moved, matrix, cv2.MOTION_AFFINE, _STEPS, None, 1)[1]
    except cv2.error:  # it does not converge: they have too little in common
        return False
    if np.abs(matrix - np.eye(2, 3))[:, :2].max() > CROPPED:
        return False
    laid, inside = (  # the correlation that OpenCV tells depends on where it stops
        cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        for pixels in (moved, np.full_like(moved, 255))
    )
    overlap = inside == 255
    return np.corrcoef(laid[overlap], photo[overlap])[0, 1] > CORRELATED
