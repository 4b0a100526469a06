"""Single photos: one in, an answer out.

Training and scoring read data sets; this reads whatever a phone, a browser or a folder holds. A
`Predictor` is a checkpoint with its manners: probabilities that mean what they say (`temperature`),
a threshold under which it says that it does not know the car, and one from which two photos show
the same model. `publish` fits all three on val and writes them into one small file.

Photos are uint8 RGB (height, width, 3), boxes 0-based half-open pixels (x1, y1, x2, y2).
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from carlib.data.catalog import Catalog
from carlib.data.class_names import parse_name
from carlib.data.images import decode_photo, resize
from carlib.errors import PhotoError, RunError
from carlib.evaluation.calibration import fit_temperature, probabilities
from carlib.evaluation.evaluate import evaluate, logits_of
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import PUBLISHED, Checkpoint
from carlib.experiment.host import commit
from carlib.experiment.record import Record
from carlib.experiment.run import Run
from carlib.explain.maps import heat_maps, similarity_maps
from carlib.files import made, read_file, save_tensors, write_atomically
from carlib.models.networks import weight_bytes
from carlib.retrieval.deciding import Decision
from carlib.retrieval.embeddings import embed
from carlib.retrieval.verification import known_decision

LARGEST_FILE = 12_000_000  # bytes of a published checkpoint
KNOWN_SHARE = 0.95  # of val photos, all of known cars, that are answered
Box = tuple[float, float, float, float]


def open_photo(path: Path | str, name: str = "", shrink: bool = True) -> np.ndarray:
    """Pixels (height, width, 3) uint8 of any image file, upright as the camera was held.

    Of an animation the first picture, of a huge JPEG half the sides unless `shrink` is false, as a
    box needs. Raises `PhotoError` naming a file (by its path, or `name`)
    that is missing, no image, damaged, or of more pixels than any camera's.
    """
    name = name or str(path)
    try:
        data = read_file(path)
    except OSError as error:
        raise PhotoError(f"{name}: cannot be read ({error.strerror}); give another file") from None
    return decode_photo(data, name, shrink=shrink)


@dataclass(frozen=True)
class Answer:
    """What a network says of one photo, likeliest first."""

    names: tuple[str, ...]
    probabilities: tuple[float, ...]  # calibrated where the checkpoint is a published one
    known: bool  # False: probably not a car of the classes it learned

    def to_dict(self) -> dict[str, Any]:
        """As plain values, with the parts of the names, for JSON."""
        guesses = [
            {"name": name, "probability": round(chance, 4)} | asdict(parse_name(name))
            for name, chance in zip(self.names, self.probabilities, strict=True)
        ]
        return {"known": self.known, "guesses": guesses}


@dataclass(frozen=True)
class Comparison:
    """Whether two photos show the same model."""

    same: bool
    probability: float  # of "same", were both answers as likely before looking
    similarity: float  # cosine of the embeddings, −1…1


class Predictor:
    """A checkpoint ready for single photos; nothing is cached, nothing is written."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        use = checkpoint.about.get("use") or {}
        self.checkpoint, self.scorer = checkpoint, Scorer.of(checkpoint)
        self.temperature = float(use.get("temperature", 1.0))
        self.known_from = float(use.get("known_from", 0.0))  # largest probability
        self.decision = Decision(**use["decision"]) if use else None

    @classmethod
    def load(cls, path: Path | str | None = None) -> Predictor:
        """Of a checkpoint file or run folder; the published network without a path."""
        return cls(Checkpoint.load(path or PUBLISHED))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.checkpoint.class_names

    def framed(self, photo: np.ndarray, box: Box | None = None) -> torch.Tensor:
        """A photo (1, 3, side, side) in 0…1 as the network gets it; the car alone with a `box`."""
        framing, size = self._framing(box), self.scorer.size
        square = framing.apply(photo, _checked_box(box, photo))
        if framing.size != size:  # by the way of the kept photos, so that scores are the same
            square = resize(square, size, size)
        return torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255

    @torch.no_grad()
    def logits(self, photos: torch.Tensor) -> torch.Tensor:
        """Logits (photos, classes) of framed photos."""
        self.checkpoint.recipe.must_classify()
        photos = photos.to(self.scorer.device)
        return _finite(self.scorer(photos).cpu())

    def identify(self, photo: np.ndarray, box: Box | None = None, top: int = 5) -> Answer:
        """The `top` likeliest classes of a photo and whether it shows a known car at all."""
        chances = probabilities(self.logits(self.framed(photo, box)), self.temperature)[0]
        order = np.argsort(-chances, kind="stable")[: max(1, top)]
        names = tuple(self.class_names[number] for number in order)
        return Answer(
            names, tuple(map(float, chances[order])), bool(chances.max() >= self.known_from)
        )

    @torch.no_grad()
    def embed(self, photo: np.ndarray, box: Box | None = None) -> np.ndarray:
        """The photo as the point that `retrieval.embeddings` makes of it: (1, dims) float32."""
        framed = self.framed(photo, box).to(self.scorer.device)
        features = self.scorer.features(framed)
        return _finite(self.scorer.network.embed(features).cpu()).numpy()

    def compare(
        self, photo: np.ndarray, other: np.ndarray, boxes: Sequence[Box | None] = (None, None)
    ) -> Comparison:
        """Whether two photos show the same model; `RunError` where no threshold was fitted."""
        if self.decision is None:
            raise RunError(
                "this checkpoint has no threshold for pairs; take the published one, or publish it"
            )
        one, two = self.embed(photo, boxes[0]), self.embed(other, boxes[1])
        similarity = float((one * two).sum())
        chance = float(self.decision.probability(np.array([similarity]))[0])
        return Comparison(similarity >= self.decision.threshold, chance, similarity)

    def heat(
        self, photo: np.ndarray, name: str = "", method: str = "Grad-CAM", box: Box | None = None
    ) -> np.ndarray:
        """What speaks for a class (the answer, or the one named): (height, width) float32 in 0…1.

        Over the whole photo, zero outside of the box.
        """
        framed = self.framed(photo, box)
        number = self._class_number(name) if name else int(self.logits(framed).argmax())
        return self._placed(heat_maps(self.scorer, framed, [number], method)[0], photo, box)

    def shared(self, photo: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What in each of two photos makes it like the other: a map over each, as of `heat`."""
        one, two = self.framed(photo), self.framed(other)
        maps = similarity_maps(self.scorer, torch.cat([one, two]), torch.cat([two, one]))
        return self._placed(maps[0], photo, None), self._placed(maps[1], other, None)

    def _framing(self, box: Box | None):
        """A box that a person gives is obeyed, whatever the network was trained on."""
        framing = self.checkpoint.recipe.framing
        return framing if box is None else replace(framing, crop="box")

    def _placed(self, heat: np.ndarray, photo: np.ndarray, box: Box | None) -> np.ndarray:
        return self._framing(box).undo(heat, photo.shape[1], photo.shape[0], box)

    def _class_number(self, name: str) -> int:
        if name in self.class_names:
            return self.class_names.index(name)
        near = difflib.get_close_matches(name, self.class_names, n=3, cutoff=0.3)
        raise RunError(f"no class {name!r}; did you mean: {', '.join(near) or 'none comes near'}")


def _finite(answers: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(answers).all():
        raise RunError("the network answers with values that are no numbers; train it again")
    return answers


def _checked_box(box: Box | None, photo: np.ndarray) -> Box | None:
    if box is None:
        return None
    height, width = photo.shape[:2]
    x1, y1, x2, y2 = box
    if 0 <= max(box) <= 1:
        raise PhotoError(f"box {box} is in shares of the photo; give pixels of {width} × {height}")
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise PhotoError(
            f"box {box} does not lie in a photo of {width} × {height} pixels; "
            f"give x1,y1,x2,y2 with x1 < x2 and y1 < y2"
        )
    return box


# --- publishing ---------------------------------------------------------------------------------


def publish(
    checkpoint: Checkpoint, catalog: Catalog, run: Run | None = None, path: Path = PUBLISHED
) -> Record:
    """Write a network that needs no data set to `path`, in half precision, and score what is there.

    Temperature, the threshold of "not a car I know" (`KNOWN_SHARE` of the photos pass) and that of
    "the same model" are fitted on val photos. The record is of the file as it was read back, so its
    accuracy is the half-precision network's; it is not written. Raises `RunError` when the file
    would be larger than LARGEST_FILE.
    """
    checkpoint.recipe.must_classify()
    logits, labels, _ = logits_of(checkpoint, catalog, "val", progress=False)
    temperature = fit_temperature(logits, labels)
    chances = probabilities(logits, temperature).max(1)
    points = embed(checkpoint, catalog, "val", progress=False)
    about = {key: value for key, value in checkpoint.about.items() if key != "use"}
    about["use"] = {
        "temperature": temperature,
        "known_from": float(np.quantile(chances, 1 - KNOWN_SHARE)),
        "decision": asdict(known_decision(points, catalog)),
        "data": catalog.name,
        "val_split": catalog.split_hash("val"),
        "trained_as": checkpoint.hash,
        "commit": commit(),
    }
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in checkpoint.model.state_dict().items()
    }
    size = weight_bytes(half.values())
    if size > LARGEST_FILE:
        raise RunError(
            f"{checkpoint.recipe.name}: {size:,} bytes in half precision; a published checkpoint "
            f"has {LARGEST_FILE:,} at most; choose a smaller network"
        )
    made(path.parent)
    with tempfile.TemporaryDirectory() as folder:  # what lies at `path` stays until this one works
        draft = Path(folder) / path.name
        save_tensors(draft, half, about)
        record = evaluate(Checkpoint.load(draft), catalog, "val", run)
        written = read_file(draft)
    write_atomically(path, written)
    extra = record.extra | {
        "use": about["use"],
        "bytes": len(written),
        "known_share": float((chances >= about["use"]["known_from"]).mean()),
        "train_photos": catalog.split_sizes["train"],
    }
    return replace(record, kind="published", name="", extra=extra)
