"""report.pdf, figures and README say what the records say; a changed digit is found and named."""

from __future__ import annotations

import io
import json
import re
import shutil
import tomllib
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from fakes import fake_audit, fake_maps, fake_record, fake_retrieval, fake_verification
from PIL import Image
from pypdf import PageObject, PdfReader
from typer.testing import CliRunner

from carlib.cli import app
from carlib.data.drawn import photo_name
from carlib.errors import RunError
from carlib.experiment.record import Record
from carlib.experiment.registry import RECIPES, quick
from carlib.experiment.tables import OURS, evaluations
from carlib.report import build as report
from carlib.report import figures, galleries
from carlib.report.missing import command
from carlib.report.rows import final_rows

ROOT = Path(__file__).resolve().parents[1]
README = "# x\n<!-- results:begin -->\n<!-- results:end -->\nafter\n"


@pytest.fixture(autouse=True)
def quick_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two drawn cars instead of 24; that the committed picture is right, the last test sees."""
    monkeypatch.setattr(galleries, "SHOWN", galleries.SHOWN[:2])
    monkeypatch.setitem(
        figures.FIGURES,
        "showroom.png",
        lambda _: galleries.showroom_picture(_, columns=2, width=32),
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the report's text, one evaluation and one audit."""
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "report", root / "report")
    shutil.copy(ROOT / "CITATION.cff", root)
    (root / "README.md").write_text(README, encoding="utf-8")
    for record in (fake_record(), fake_audit()):
        record.write(root / "data" / "results")
    return root


def text_of(pdf: Path) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(pdf).pages).split())


def change(root: Path, name: str, old: str, new: str) -> None:
    path = root / "data" / "results" / f"{name}.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_report_says_what_the_records_say(repository: Path) -> None:
    written = report.build_report(repository)
    drawn = {"showroom.png", "classes.svg", "scores.svg", "curves.svg", "minutes.svg"}
    assert {p.name for p in written} == {*drawn, "report.pdf", "README.md"}
    text = text_of(repository / "report.pdf")
    for number in ("0.123", "0.100–0.150", "0.345", "7,654", "6,889", "13 min", "0.400"):
        assert number in text
    readme = (repository / "README.md").read_text(encoding="utf-8")
    row = (
        "| three convolutions, smaller than S3's | 0.123 (0.100–0.150) | 1 | 13 min, 2 CPU cores |"
    )
    assert f"| Which of 196 cars is it? Accuracy {row}" in readme
    assert readme.endswith("<!-- results:end -->\nafter\n")
    assert report.check_report(repository) == []


def test_what_was_not_run_is_counted_and_has_no_row(repository: Path) -> None:
    report.build_report(repository)
    text = text_of(repository / "report.pdf").replace("\u200b", "")
    commands = text[text.index("Recipes without a record") :].replace(" ", "")
    for name in RECIPES:
        assert (command(name).replace(" ", "") in commands) == (name != "cnn3"), name
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert f"{len(RECIPES) - 1} recipes have no record yet; `carlib recipes --missing`" in readme
    assert "scratch" not in readme and "0.876 not run" in text  # S2's method


def test_transfer_has_its_own_tables(repository: Path) -> None:
    record = fake_record("lite0_frozen", accuracy=0.634)
    trusted = {"ece": 0.071, "ece_calibrated": 0.023, "accuracy_at_80": 0.712,
               "accuracy_at_80_gain": 0.078}  # fmt: skip
    replace(record, metrics=record.metrics | trusted).write(repository / "data" / "results")
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    for number in ("0.634 (0.100–0.150)", "0.071", "0.023", "0.712", "0.078"):
        assert number in text
    assert "best run so far, 1.23 M parameters" in text and "0.123" in text  # from scratch
    assert "not run: carlib study imbalance --data PATH" in text


def test_retrieval_has_its_own_tables(repository: Path) -> None:
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    assert "not run: carlib train lite0_proxy_anchor --data PATH --classes 98" in text
    for seed, value in enumerate((0.612, 0.634)):
        fake_retrieval("lite0_triplet", seed=seed, value=value).write(
            repository / "data" / "results"
        )
    chosen = {"k": 7, "metric": "cosine", "weights": "distance"}
    knn = replace(fake_record("lite0_frozen", accuracy=0.456), kind="knn", name="knn-x")
    replace(knn, extra={"chosen": chosen}).write(repository / "data" / "results")
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    for found in ("0.623 –", "triplet", "cosine, distance 0.456", "1 of 512"):
        assert found in text
    fake_retrieval("lite0_frozen", value=0.7, split_hash="1" * 16).write(
        repository / "data" / "results"
    )
    with pytest.raises(RunError, match="different photos cannot stand in one table"):
        report.build_report(repository)


def test_verification_and_large_galleries_have_their_sentences(repository: Path) -> None:
    results = repository / "data" / "results"
    report.build_report(repository)
    assert "carlib train siamese_lite0 --data PATH --classes 98" in text_of(
        repository / "report.pdf"
    )
    fake_verification(value=0.71).write(results)
    search = replace(
        fake_record(),
        kind="benchmark",
        topic="search",
        name="search-stanford-cars",
        data={"catalog": "stanford-cars", "photos": 1_000_000},
        metrics={"times exact": 25.4, "times scikit-learn": 4.2},
        extra={"dims": 256, "points": [7330, 1280]},
    )
    search.write(results)
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    for said in (
        "0.710 (0.400–0.600)",
        "0.100 of the pairs of two models",
        "1,000,000",
        "25 times",
        "7,330",
    ):
        assert said in text


def test_maps_have_their_table_and_their_figure(repository: Path) -> None:
    results = repository / "data" / "results"
    report.build_report(repository)
    assert "carlib train years --data showroom#years" in text_of(repository / "report.pdf")
    assert not (repository / "figures" / "maps.svg").exists()
    for record in (fake_maps(), fake_maps("scratch_cpu"), fake_maps("years", "showroom", 4.2)):
        record.write(results)
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    for said in (
        "4.2 times",
        "weights 2.1;",
        "0.912 of 37",
        "0.417",
        "0.013",
        "body.last",
        "is ahead of the best map that knows nothing (random network) by 0.250",
    ):
        assert said in text
    change(repository, "maps-stanford-cars-lite0_cpu-seed0", '"increase": 0.5', '"increase": 0.6')
    change(repository, "maps-showroom-years-seed0", "000987", "000986")
    found = report.check_report(repository)
    for name in ("maps.svg", "heat.png"):
        assert f"figures/{name}: not what the records give" in found


def fake_benchmark(topic: str, **parts: object) -> Record:
    return replace(
        fake_record(), kind="benchmark", topic=topic, name=f"benchmark-{topic}",
        data={"catalog": "showroom", "photos": 34}, **parts,
    )  # fmt: skip


def test_maps_held_against_the_truth_have_their_section(repository: Path) -> None:
    results, measures = repository / "data" / "results", ("contrastivity", "correctness")
    report.build_report(repository)
    assert "python benchmarks/counterfactual.py" in text_of(repository / "report.pdf")
    kinds = {"Grad-CAM": 0.91, "Eigen-CAM": 0.5, "Occlusion": 0.93, "edges": 0.5, "random": 0.47}
    rows = [
        {"network": name, "map": kind, "flips": 0.613, "flips_interval": [0.5, 0.7],
         "times_shortcut_area": 3.7, "times_shortcut_area_interval": [2.0, 4.0]}
        | {one: value for one in measures}
        | {f"{one}_interval": [value - 0.1, value + 0.1] for one in measures}
        for name in ("scratch, seed 0", "fine-tuned", "untrained", "shortcut",
                     "scratch, seed 0, with stickers")
        for kind, value in kinds.items()
    ]  # fmt: skip
    del rows[0]["contrastivity"]  # no pair could be asked
    steps = [row | {"step": "1 changed", "pairs": 12} for row in rows[1:3]]
    about = {"among": "methods", "measure": "insertion", "networks": 7}
    found = {"correlation": 0.641, "correlation_interval": [0.31, 0.82]}
    agreed = [about | found | {"truth": one} for one in measures]
    fake_benchmark(
        "counterfactual", scoring={"pairs": 32},
        extra={"rows": rows, "ladder": steps, "agreement": agreed},
    ).write(results)  # fmt: skip
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    for said in ("fine-tuned, contrastivity lies above", "for Grad-CAM and Occlusion", "+0.641",
                 "over 32 pairs", "3.7 times the sticker’s area"):  # fmt: skip
        assert said in text, said
    assert (repository / "figures" / "truth.svg").exists()


def test_drawn_cars_show_mistakes_neighbors_and_pairs(repository: Path) -> None:
    a, b = (f"photos/{photo_name(label, 0, 0)}.png" for label in (4, 5))
    metrics = {"accuracy": 0.711, "only_the_year": 0.5, "recall_at_1": 0.622, "hard_accuracy": 0.7}
    shown = {"mistakes": [{"a": a, "b": b, "confidence": 0.91}],
             "pairs": [{"a": a, "b": b, "same": False, "similarity": 0.87}],
             "queries": [{"path": a, "nearest": [b], "similarity": [0.87]}]}  # fmt: skip
    record = fake_benchmark("examples", metrics=metrics, extra=shown)
    record.write(repository / "data" / "results")
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    for said in ("0.711 correctly", "0.622 of them", "decision is right for 0.700"):
        assert said in text, said
    change(repository, record.name, '"similarity": 0.87', '"similarity": 0.86')
    change(repository, record.name, '"confidence": 0.91', '"confidence": 0.92')
    stale = " ".join(report.check_report(repository))
    assert all(f"drawn_{one}.svg" in stale for one in ("mistakes", "pairs"))


def test_everything_stands_in_one_comparison(repository: Path) -> None:
    """Named recipes and what became of a network; no cut budget, and other photos are refused."""
    knn = replace(fake_record("lite0_frozen", accuracy=0.456), kind="knn", name="knn-x", timing={})
    short = replace(fake_record(), recipe=asdict(quick(RECIPES["s1"])), recipe_hash="")
    records = [fake_record("cnn4", accuracy=0.2), knn, short]
    records += [fake_record("scratch_cpu", seed=seed, accuracy=0.5 + seed / 10) for seed in (0, 1)]
    rows = final_rows(records)
    assert [(line["recipe"], line["accuracy"]) for line in rows] == [
        ("scratch_cpu", pytest.approx(0.55)), ("lite0_frozen", 0.456), ("cnn4", 0.2)
    ]  # fmt: skip
    assert rows[1]["seconds"] is None and rows[1]["way"] == "nearest photographs vote"
    other = replace(knn, name="knn-y", data=knn.data | {"split_hash": "1" * 16})
    with pytest.raises(RunError, match="knn-y"):
        final_rows([*records, other])


def test_what_is_set_above_another_is_a_paired_difference(repository: Path) -> None:
    """Of the same classes: not told apart where the interval holds zero, else by how much."""
    results = repository / "data" / "results"
    for record in (fake_record("lite0_frozen", accuracy=0.123), fake_record("lite0_cpu", 0, 0.523)):
        record.write(results)
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    assert "the frozen body and training from scratch cannot be told apart" in text
    assert "fine-tuning is ahead of the frozen body by 0.400 (95 % interval +0.400 to" in text
    mirrored = replace(fake_record("lite0_cpu", 0, 0.523), scoring={"views": ["plain", "mirror"]})
    mirrored = replace(mirrored, name="mirrored")
    (results / "lite0_cpu-stanford-cars-seed0-val.json").unlink()
    mirrored.write(results)
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    assert "lie 0.400, of which no interval can be given, as they were scored by different" in text


def test_what_was_tried_is_told_or_said_to_be_unrecorded(repository: Path) -> None:
    report.build_report(repository)
    assert "and on what, was not recorded." in text_of(repository / "report.pdf")
    gains = {"as it is": 0.0, "a tenth of the rate": -0.03, "ten times the rate": 0.02}
    rows = [{"lead": lead, "changes": {"lr": 1.0} if gain else {}, "dev_accuracy": 0.84 + gain,
             "difference": gain, "difference_interval": [gain - 0.01, gain + 0.01],
             "seconds": 1230.0} for lead, gain in gains.items()]  # fmt: skip
    study = replace(fake_record("lite0_cpu", split="train", photos=658), kind="study",
                    topic="leads", name="leads", extra={"rows": rows})  # fmt: skip
    study.write(repository / "data" / "results")
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    assert "658 photographs kept back from train" in text
    assert text.count("none recorded") == len(OURS) - 1
    assert "Better, with an interval above zero: ten times the rate." in text
    assert "Worse, with an interval below zero: a tenth of the rate." in text


def test_a_leak_has_its_table(repository: Path) -> None:
    report.build_report(repository)
    assert "not run: carlib study leak --data PATH" in text_of(repository / "report.pdf")
    scores = {("photos", "linear layer"): 0.612, ("photos", "nearest neighbor"): 0.413,
              ("copies", "linear layer"): 0.814, ("copies", "nearest neighbor"): 0.915}  # fmt: skip
    rows = [
        {"divided": divided, "learner": learner, "accuracy": value, "accuracy_sd": 0.016,
         "known": 0.987} for (divided, learner), value in scores.items()
    ]  # fmt: skip
    replace(
        fake_record(), kind="study", topic="leak", name="leak-stanford-cars-lite0_frozen",
        metrics={"linear_layer_gain": 0.202, "nearest_neighbor_gain": 0.502},
        extra={"rows": rows, "seeds": [0, 1, 2], "copies": 4, "photos": 7654},
    ).write(repository / "data" / "results")  # fmt: skip
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    for said in ("0.987 of the copies", "0.814 in place of 0.612", "0.413 ± 0.016", "0.202 to a"):
        assert said in text


def test_costs_have_their_sentences(repository: Path) -> None:
    results = repository / "data" / "results"
    plain = replace(fake_record(), kind="benchmark", data={"catalog": "showroom"}, extra={})
    measured = {"store / decode": 31.4, "albumentations / torchvision": 2.7}
    replace(plain, topic="photos", name="photos-showroom-160px", metrics=measured).write(results)
    grown = {f"{of}: {what}, times": value for of, value in (("photos", 15.9), ("classes", 16.8))
             for what in ("train", "memory_gib")}  # fmt: skip
    replace(
        plain, topic="growth", name="growth-showroom", metrics=grown, extra={"times": [1, 4, 16]}
    ).write(results)
    way = {"ms_per_photo": 20.0, "speed": 1.0, "bytes": 9000, "change": 0.0,
           "change_interval": [0.0, 0.0]}  # fmt: skip
    ways = [way | {"way": "onnx"},
            way | {"way": "onnx int8", "speed": 1.7, "bytes": 2700, "change": 0.01}]  # fmt: skip
    replace(plain, topic="deployment", name="deployment", extra={"rows": ways}).write(results)
    report.build_report(repository)
    text = text_of(repository / "report.pdf")
    for said in (
        "31 times as fast",
        "2.7 times as fast",
        "With 16 times",
        "15.9",
        "16.8",
        "1.7 times as fast and 0.30 times as large",
    ):
        assert said in text


def test_report_without_any_record(repository: Path) -> None:
    report.build_report(repository)
    shutil.rmtree(repository / "data" / "results")
    report.build_report(repository)
    assert {p.name for p in (repository / "figures").iterdir()} == {"showroom.png"}
    assert "0.123" not in text_of(repository / "report.pdf")
    assert report.check_report(repository) == []


@pytest.mark.parametrize(
    ("record", "old", "new", "places"),
    [
        ("cnn3-stanford-cars-seed0-val", '"accuracy": 0.123', '"accuracy": 0.124',
         {"report.pdf, page", "figures/scores.svg", "README.md: says"}),
        ("cnn3-stanford-cars-seed0-val", '"val_loss": 4.5', '"val_loss": 4.4',
         {"figures/curves.svg"}),
        ("audit-stanford-cars", '"tiny": 41', '"tiny": 42', {"report.pdf, page"}),
        ("audit-stanford-cars", '"train": 9', '"train": 8', {"figures/classes.svg"}),
    ],
)  # fmt: skip
def test_one_changed_digit_is_found_and_named(
    repository: Path, record: str, old: str, new: str, places: set[str]
) -> None:
    report.build_report(repository)
    change(repository, record, old, new)
    found = report.check_report(repository)
    for place in places:
        assert any(line.startswith(place) for line in found), found
    if "42" in new:
        assert any("41" in line and "42" in line for line in found)


def test_a_figure_drawn_by_hand_is_found(repository: Path) -> None:
    report.build_report(repository)
    curves = repository / "figures" / "curves.svg"
    curves.write_text(
        curves.read_text(encoding="utf-8").replace("0072b2", "ff0000"), encoding="utf-8"
    )
    assert report.check_report(repository) == [
        "figures/curves.svg: not what the records give",
        "report.pdf: same words, but figures or layout differ",
    ]


def test_pictures_are_compared_by_their_pixels() -> None:
    def png(value: int, level: int = 6, side: int = 8) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (side, side), (value, 40, 40)).save(file, "png", compress_level=level)
        return file.getvalue()

    assert png(100) != png(100, level=0) and report._same_picture(png(100), png(100, level=0))
    assert report._same_picture(png(100), png(100 + report.ROUNDING))
    assert not report._same_picture(png(100), png(101 + report.ROUNDING))
    assert not report._same_picture(png(100), png(100, side=9))
    assert not report._same_picture(None, png(100)) and not report._same_picture(png(100), None)
    assert report._same_picture(b"<svg>", b"<svg>") and not report._same_picture(b"<svg>", b"<sv>")


def test_same_records_same_bytes(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "copy"
    shutil.copytree(repository, other)
    report.build_report(repository)
    report.build_report(other)
    for name in (
        "report.pdf",
        "README.md",
        *(f"figures/{path.name}" for path in (repository / "figures").iterdir()),
    ):
        assert (repository / name).read_bytes() == (other / name).read_bytes(), name


def test_seeds_are_averaged(repository: Path) -> None:
    fake_record(seed=1, accuracy=0.323).write(repository / "data" / "results")
    report.build_report(repository)
    assert "0.223 (0.123–0.323)" in (repository / "README.md").read_text(encoding="utf-8")
    text = text_of(repository / "report.pdf")
    assert "0.223" in text and "2 seeds, 0.123–0.323" in text


def test_records_of_other_data_or_splits_stay_out(repository: Path) -> None:
    for data in ({"dataset": "showroom"}, {"split": "test"}):
        assert evaluations([fake_record(**data)]) == []
    fake_record("cnn4", split_hash="1" * 16).write(repository / "data" / "results")
    with pytest.raises(RunError, match=r"different val splits.*cnn4"):
        report.build_report(repository)


def test_readme_without_marks_is_refused(repository: Path) -> None:
    (repository / "README.md").write_text("nothing\n", encoding="utf-8")
    with pytest.raises(RunError, match="results:begin"):
        report.build_report(repository)


def test_a_fault_in_the_text_is_named(repository: Path) -> None:
    (repository / "report" / "report.typ").write_text("#no-such-thing", encoding="utf-8")
    with pytest.raises(RunError, match="no-such-thing"):
        report.build_report(repository)


def test_command_tells_stale_from_fresh(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "checkout", lambda: repository)
    run = CliRunner().invoke
    assert run(app, ["report"]).exit_code == 0
    assert run(app, ["report", "--check"]).exit_code == 0
    change(repository, "audit-stanford-cars", '"tiny": 41', '"tiny": 40')
    stale = run(app, ["report", "--check"])
    assert stale.exit_code == 1
    assert "report.pdf, page" in stale.output and "run: carlib report" in stale.output


def test_no_number_is_typed_into_the_report() -> None:
    """Scores look like 0.123 or .123; in the text there is none, in studies.json there are."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "report").glob("*.typ"))
    lines = [
        line for line in text.splitlines() if not re.search(r"size|leading|stroke|above|v\(", line)
    ]
    assert not re.findall(r"(?<![\w#])0?\.\d{2,}", "\n".join(lines))
    studies = json.loads((ROOT / "report" / "studies.json").read_text(encoding="utf-8"))["studies"]
    assert {study["id"] for study in studies} == {"S0", "S1", "S2", "S3", "S4"}


def unlinked(pdf: Path) -> set[str]:
    """Numbers of three decimals that lead nowhere, but those of recipes."""
    found = set()
    for page in PdfReader(pdf).pages:
        notes = [note.get_object() for note in page.get("/Annots", [])]
        links = [[float(side) for side in note["/Rect"]] for note in notes]

        def see(text: str, cm: list, tm: list, *_: object, links: list = links) -> None:
            x, y = tm[4] * cm[0] + cm[4], tm[5] * cm[3] + cm[5]
            if not any(a - 1 <= x <= c + 1 and b - 1 <= y <= d + 1 for a, b, c, d in links):
                found.update(re.findall(r"(?<![\d.=])(?<!decay )(0\.\d{3})(?!\d)", text))

        page.extract_text(visitor_text=see)
    return found


def test_every_number_leads_to_its_record() -> None:
    """What leads nowhere is a number of other people's, or a recipe's."""
    studies = (ROOT / "report" / "studies.json").read_text(encoding="utf-8")
    theirs = {f"{float(number):.3f}" for number in re.findall(r"\d*\.\d+", studies)}
    planned = {str(value) for recipe in RECIPES.values() for value in asdict(recipe).values()}
    assert unlinked(ROOT / "report.pdf") <= theirs | planned


def test_a_number_leads_to_the_record_that_has_it(repository: Path) -> None:
    report.build_report(repository)
    reader, lines = PdfReader(repository / "report.pdf"), set()
    for note in (one.get_object() for page in reader.pages for one in page.get("/Annots", [])):
        if "/Dest" in note:
            place = note["/Dest"].get_object()
            if isinstance(place, str):
                place = reader.named_destinations[place].dest_array
            there, _, _, top, *_ = place
            page = next(one for one in reader.pages if one.indirect_reference == there)
            lines.add(below(page, float(top)))
    for name in (record.name for record in (fake_record(), fake_audit())):
        parts = name.split("-")  # a name may go over two lines, between those of another column
        assert any(all(part in line for part in parts) for line in lines), name


def below(page: PageObject, top: float) -> str:
    """The text of a page in the lines next below a height, of both columns."""
    lines = defaultdict(str)

    def see(text: str, cm: list, tm: list, *_: object) -> None:
        lines[tm[5] * cm[3] + cm[5]] += text.replace("\u200b", "")

    page.extract_text(visitor_text=see)
    near = sorted((height for height in lines if height < top), reverse=True)[:8]
    return "".join(lines[height] for height in near).replace("\n", "")


def test_badges_point_to_their_own_notebooks() -> None:
    where = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["carlib"]
    slug = where["repository"].removeprefix("https://github.com/")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"\]\((notebooks/[^)]+)\) \|.*\((https://colab[^)]+)\) \|", readme)
    assert [name for name, _ in rows] == [
        f"notebooks/{p.name}" for p in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    ]
    for name, target in rows:
        assert target.endswith(f"/github/{slug}/blob/{where['branch']}/{name}")


def test_committed_report_is_what_the_records_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one slow test here: everything is made again from data/results and compared."""
    monkeypatch.undo()
    assert report.check_report(ROOT) == []
    assert io.BytesIO((ROOT / "report.pdf").read_bytes()).read(5) == b"%PDF-"
