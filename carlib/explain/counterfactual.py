"""Heat maps of any classifier of drawn cars, held against counterfactual cars.

    table = explain_truth(model, layer).table()

`model` is any torch module that takes photos (n, 3, side, side) in 0…1 and gives logits (n,
classes) of the drawn classes `FACELIFTS`; `layer` is the module of it at which class activation
maps are taken. The measures are `carlib.explain.truth`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import nn

from carlib.errors import RunError
from carlib.evaluation.scorer import Scorer
from carlib.experiment.checkpoint import Checkpoint
from carlib.explain import truth
from carlib.explain.faithfulness import RANDOM, randomized
from carlib.explain.maps import METHODS, Layer, maps_at, target_layer
from carlib.explain.measures import (
    BASELINES,
    BATCH,
    HIGHER,
    MEASURES,
    baseline_maps,
    energy_inside,
    faithfulness,
    measured,
    points_inside,
)
from carlib.explain.pixel_maps import PIXEL_METHODS, pixel_maps
from carlib.explain.questions import Questions

SLOW = "Score-CAM"  # needs a pass per channel, and is made only where it is asked for
SHORTCUT = "sticker"  # a part that belongs to no car
CHEAP = HIGHER | {"times_car_area": 1, "points_in_car": 1}
"""Measures that need no truth: 1 where higher is better, else -1."""
STRANGERS = 4  # networks of random weights that share the photos
TUNING = 10_000  # added to the seed: photos on which thresholds are chosen, and no others

Maker = Callable[[torch.Tensor, np.ndarray], np.ndarray]
"""Photos (n, 3, side, side) and classes (n, k) to maps (n, k, side, side)."""


@dataclass(frozen=True)
class Findings:
    """What a network said, and what each kind of its maps was worth, a value per pair."""

    network: dict[str, np.ndarray]  # measures of the answers: (pairs,), NaN where not asked
    maps: dict[str, dict[str, np.ndarray]]  # by the kind of map, then by measure
    thresholds: dict[str, float]  # from train pairs, by the kind of map
    questions: Questions
    own: dict[str, np.ndarray] = field(repr=False)  # maps (pairs, side, side) of the photos' class

    def table(self) -> pd.DataFrame:
        """A row per kind of map: measures with 95 % intervals by pairs, and what was said."""
        return pd.DataFrame(self.rows())

    def rows(self) -> list[dict[str, object]]:
        """The same as a record keeps it: what could not be asked is not there."""
        said = _row(self.network)
        return [
            {"map": name} | _row(found) | {"threshold": self.thresholds[name]} | said
            for name, found in self.maps.items()
        ]

    def ladder(self) -> list[dict[str, object]]:
        """By how many parts differ, and by their share of the photo; a row per map and step."""
        steps, rows = self.questions.ladder_steps(), []
        for name, found in self.maps.items():
            asked = {key: found[key] for key in ("contrastivity", "correctness")}
            asked |= {"flips": self.network["flips"]}
            rows += [{"map": name} | row for row in truth.ladder(asked, steps)]
        return rows


def explain_truth(
    model: nn.Module,
    layer: nn.Module | Layer | None = None,
    questions: Questions | None = None,
    tuning: Questions | None = None,
    methods: Sequence[str] = (),
) -> Findings:
    """Hold the heat maps of a classifier of the drawn cars against counterfactual cars.

    `model` takes photos (n, 3, side, side) in 0…1, normalizes them itself, and gives logits (n,
    classes) in the order of `FACELIFTS`; `layer` is where class activation maps are taken, without
    which there are none. `questions` are what is scored, `tuning` what chooses the thresholds;
    where not given they are drawn here, at 128 pixels. `methods`: some of `METHODS` and
    `PIXEL_METHODS`, else all but Score-CAM. Blind maps always stand beside: of random networks of
    the same kind, noise, the middle, and edges. Raises `RunError` for methods that are not known
    and for a model that does not know the classes.
    """
    questions = questions or Questions.draw()
    tuning = tuning or Questions.draw(30, seed=TUNING)
    network = Asked(model.eval())
    said = _Answers(network, questions)
    makers = map_makers(network, layer, methods)
    answers = _network_values(network, questions)
    drops, tuned = _drops(said, questions), _Answers(network, tuning)
    maps, thresholds, own = {}, {}, {}
    for name, maker in makers.items():
        tuning_maps = maker(tuning.photos[:, 0], tuning.classes[:, :1])[:, 0]
        tuning_shares = truth.part_shares(tuning_maps, tuning.parts)
        tuned.ask(truth.removals(tuning_shares))
        thresholds[name] = truth.best_threshold(tuning_shares, tuned)
        made = _maps_of_pairs(maker, questions)
        maps[name] = _values(made, questions, answers)
        own[name] = made[:, 0, 0]
        shares = truth.part_shares(own[name], questions.parts)
        said.ask(truth.removals(shares, [thresholds[name]]))
        checks = truth.part_checks(shares, thresholds[name], said)
        maps[name] |= {"single_deletion": truth.single_deletion(shares, drops)}
        maps[name] |= dict(zip(("preservation", "deletion_check"), checks, strict=True))
    return Findings(answers, maps, thresholds, questions, own)


def truth_of(
    checkpoint: Checkpoint,
    questions: Questions,
    tuning: Questions,
    methods: Sequence[str] = (),
    layer: str = "",
) -> Findings:
    """`explain_truth` of a checkpoint, with maps at a layer called `layer`, else at the last one.

    Raises `RunError` where it was trained on photos cut to the car: these are whole.
    """
    return explain_truth(*_opened(checkpoint, layer), questions, tuning, methods)


def ladder_of(
    checkpoint: Checkpoint, questions: Questions, methods: Sequence[str] = (), layer: str = ""
) -> list[dict[str, object]]:
    """`Findings.ladder` of a checkpoint on pairs that need no thresholds, as `Questions.climb`'s.

    Raises as `truth_of` does.
    """
    model, at = _opened(checkpoint, layer)
    answers = _network_values(Asked(model.eval()), questions)
    maps = {
        name: _values(_maps_of_pairs(maker, questions), questions, answers)
        for name, maker in map_makers(model, at, methods).items()
    }
    return Findings(answers, maps, {}, questions, {}).ladder()


def _opened(checkpoint: Checkpoint, layer: str) -> tuple[Scorer, Layer]:
    """A checkpoint's network and the layer of its maps; `RunError` where it sees cut photos."""
    if checkpoint.recipe.crop != "whole":
        raise RunError(f"{checkpoint.recipe.name}: sees photos cut to the car; these are whole")
    scorer = Scorer.of(checkpoint)
    return scorer, target_layer(scorer.network, scorer.size, scorer.channels, layer)


def cheap_measures(
    model: nn.Module, findings: Findings, photos: int = 12, measures: Sequence[str] = ()
) -> pd.DataFrame:
    """What measures that know nothing of the truth say of the same maps, a row per kind of map.

    Of the first `photos` pairs the photo: `measures` of `carlib.explain.measures.MEASURES` (all),
    and how much of the map lies in the car, which a box would tell of real photos.
    """
    asked = findings.questions
    few = {name: heat[:photos] for name, heat in findings.own.items()}
    values = measured(
        Asked(model), asked.photos[:photos, 0], few, asked.classes[:photos, 0],
        tuple(measures) or tuple(MEASURES),
    )  # fmt: skip
    return pd.DataFrame(faithfulness(values, few, {"car": asked.car[:photos]}))


# --- what the network says ----------------------------------------------------------------------


class Asked(nn.Module):
    """Any classifier, asked as the measures of maps ask a `Scorer`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.model(photos)

    @torch.no_grad()
    def logits(self, photos: torch.Tensor) -> np.ndarray:
        """Logits (n, classes) of photos (n, 3, side, side), some at a time."""
        parts = [self.model(part.to(self.device)).cpu() for part in photos.split(BATCH)]
        return torch.cat(parts).float().numpy()


class _Answers:
    """What a network says of photos that lack parts; it is asked once for each."""

    def __init__(self, network: Asked, questions: Questions) -> None:
        self.network, self.questions = network, questions
        self.known: dict[tuple[int, frozenset[int]], np.ndarray] = {}

    def ask(self, wanted: Collection[tuple[int, frozenset[int]]]) -> None:
        """Ask for photos of pairs, each without some parts, all at once."""
        if new := list(dict.fromkeys(key for key in wanted if key not in self.known)):
            photos = torch.stack([self.questions.without(*key) for key in new])
            self.known |= dict(zip(new, self.network.logits(photos), strict=True))

    def logits(self, number: int, gone: frozenset[int]) -> np.ndarray:
        """Logits (classes,) of the photo of a pair that lacks some parts."""
        self.ask([(number, gone)])
        return self.known[number, gone]

    def __call__(self, number: int, gone: frozenset[int]) -> int:
        return int(self.logits(number, gone).argmax())


def _network_values(network: Asked, questions: Questions) -> dict[str, np.ndarray]:
    """Measures of the answers alone, (pairs,): right, flips, moves, and unmoved by scenes."""
    count = len(questions.photos)
    logits = network.logits(questions.photos.flatten(0, 1)).reshape(count, 2, -1)
    if logits.shape[2] <= questions.classes.max():
        raise RunError(
            f"the model knows {logits.shape[2]} classes; the drawn cars are of "
            f"{questions.classes.max() + 1} at least"
        )
    own, other = (np.take_along_axis(logits, questions.classes[:, None, [k]], 2)[..., 0]
                  for k in (0, 1))  # fmt: skip
    lead = own - other  # (pairs, 2)
    answers = logits.argmax(2)
    right = answers[:, 0] == questions.classes[:, 0]
    flips = np.where(right, answers[:, 1] == questions.classes[:, 1], np.nan)
    elsewhere = network.logits(questions.scenes).argmax(1)
    return {
        "accuracy": right.astype(float),
        "flips": flips,  # of the photos that were answered right
        "moved": (lead[:, 1] < lead[:, 0]).astype(float),
        "steady": (answers[:, 0] == elsewhere).astype(float),
    }


def _drops(said: _Answers, questions: Questions) -> np.ndarray:
    """By how much the logit of its class falls when a photo lacks one part, (pairs, parts)."""
    drops = np.zeros(questions.parts.shape[:2])
    seen = np.argwhere(questions.parts.any((2, 3))).tolist()
    said.ask([(number, frozenset([part])) for number, part in seen])
    for number, part in seen:
        label, whole = questions.classes[number, 0], said.logits(number, frozenset())
        drops[number, part] = (whole - said.logits(number, frozenset([part])))[label]
    return drops


# --- its maps -----------------------------------------------------------------------------------


def map_makers(
    model: nn.Module, layer: nn.Module | Layer | None = None, methods: Sequence[str] = ()
) -> dict[str, Maker]:
    """What makes maps of a model's classes, by name: the methods, then the blind ones.

    Those of random networks are Grad-CAM's, or without a layer the gradient's.
    """
    known = (*(METHODS if layer is not None else ()), *PIXEL_METHODS)
    methods = tuple(methods) or tuple(name for name in known if name != SLOW)
    if odd := [name for name in methods if name not in known]:
        raise RunError(f"unknown method {odd[0]!r}; known: {', '.join(known)}")
    at = Layer("", layer) if isinstance(layer, nn.Module) else layer
    makers: dict[str, Maker] = {
        name: partial(pixel_maps, model, method=name)
        if name in PIXEL_METHODS
        else partial(_class_activation, model, at, method=name)
        for name in methods
    }
    makers[RANDOM] = _of_strangers(model, at)
    return makers | {name: partial(_baseline, name) for name in BASELINES}


def _maps_of_pairs(maker: Maker, questions: Questions) -> np.ndarray:
    """Maps (pairs, photo | counterfactual, own | other class, side, side)."""
    made = maker(questions.photos.flatten(0, 1), questions.classes.repeat(2, 0))
    return made.reshape(-1, 2, *made.shape[1:])


def _class_activation(
    model: nn.Module, layer: Layer, photos: torch.Tensor, classes: np.ndarray, method: str
) -> np.ndarray:
    maps = []
    for numbers in classes.T:
        targets = [lambda output, number=int(number): output[number] for number in numbers]
        maps.append(maps_at(model, layer, photos, targets, method, BATCH))
    return np.stack(maps, 1)


def _of_strangers(model: nn.Module, layer: Layer | None) -> Maker:
    """Maps of networks with random weights; one alone looks at the same places of every photo."""
    name = next((n for n, m in model.named_modules() if layer and m is layer.module), "")
    makers: list[Maker] = []
    for seed in range(STRANGERS):
        *_, (_, network) = randomized(model, seed)
        network.eval()
        if layer is None:
            makers.append(partial(pixel_maps, network, method="Gradient"))
        else:
            there = Layer(name, network.get_submodule(name), layer.reshape)
            makers.append(partial(_class_activation, network, there, method="Grad-CAM"))

    def make(photos: torch.Tensor, classes: np.ndarray) -> np.ndarray:
        maps = np.empty((*classes.shape, *photos.shape[2:]), np.float32)
        for seed, maker in enumerate(makers):
            mine = np.flatnonzero(np.arange(len(photos)) // 2 % STRANGERS == seed)  # by pairs
            if len(mine):
                maps[mine] = maker(photos[mine], classes[mine])
        return maps

    return make


def _baseline(name: str, photos: torch.Tensor, classes: np.ndarray) -> np.ndarray:
    """Maps of one of BASELINES; noise is another one for every class."""
    return np.stack([baseline_maps(photos, name, seed) for seed in range(classes.shape[1])], 1)


def _values(
    maps: np.ndarray, questions: Questions, answers: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Measures that need no part taken away, a value per pair."""
    own = maps[:, 0, 0]
    shares, moved = truth.cause_shares(maps, questions.causes), answers["moved"] > 0
    values = {
        "contrastivity": np.where(moved, truth.contrastivity(shares), np.nan),
        "movement": np.where(moved, truth.movement(shares), np.nan),
        "correctness": truth.correctness(shares, questions.causes),
        "points_in_cause": points_inside(own, questions.causes),
        "undistracted": truth.undistracted(own, questions.exchanged, answers["steady"] > 0),
    }
    worn = questions.parts[:, questions.names.index(SHORTCUT)]
    area = np.where(worn.any((1, 2)), worn.mean((1, 2)), np.nan)
    return values | {"times_shortcut_area": energy_inside(own, worn) / area}


def _row(values: Mapping[str, np.ndarray]) -> dict[str, object]:
    row: dict[str, object] = {}
    for name, value in values.items():
        row |= truth.mean_of(name, value)
    return row
