"""The measuring programs, on as little as they work with."""

import dataclasses
import io
import json
import re
import shutil
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from benchmarks import (
    answers,
    cluster,
    corpus,
    decoder,
    disk,
    edition,
    emergence,
    filtered,
    footprint,
    generation,
    hiding,
    ingest,
    int8,
    localization,
    none,
    public,
    ranking,
    readme,
    reliability,
    rendering,
    resume,
    search,
    serve,
    sharing,
    stages,
    torture,
    vectors,
    waiting,
    words,
)
from benchmarks import towers as towers_benchmark
from tests.small_files import one_of_each
from xsearch.generate import DecoderConfig, Network, TrainedDecoder
from xsearch.generate.training import Plan
from xsearch.locate import Located
from xsearch.models import HUGE, TOWERS
from xsearch.models.registry import BUNDLED
from xsearch.query import Part, Query, View, embed, search_many
from xsearch.scenes import sample, write
from xsearch.types import Fingerprint, Modality


def test_scenes_are_timed():
    result = rendering.run(2)
    assert result["scenes_per_s"] > 0
    assert "scenes/s" in rendering.markdown(result)


def test_a_decoder_is_trained_and_measured(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("images", "images_val", "photos"):
        rows = [{"jpeg": jpeg(colour), "concept": colour} for colour in ("red", "green")] * 2
        pq.write_table(pa.Table.from_pylist(rows), data / f"{name}.parquet")
    sound, depth, thermal = (tmp_path / name for name in ("sound.ogg", "depth.png", "thermal.png"))
    soundfile.write(sound, np.sin(np.arange(16_000) * 0.1) / 2, 16_000)
    Image.fromarray(np.full((48, 64), 2000, np.uint16)).save(depth)
    Image.fromarray(np.full((48, 64), 90, np.uint8)).save(thermal)
    tables = {
        "captions": {"caption": "a dog"},
        "audio": {"ogg": sound.read_bytes()},
        "depth": {"depth_png": depth.read_bytes()},
        "thermal": {"thermal_png": thermal.read_bytes()},
        "imu": {"samples": [[0.0, 0.0, 9.8, 0.0, 0.0, 0.1]] * 300, "rate_hz": 50.0},
    }
    for name, row in tables.items():
        pq.write_table(pa.Table.from_pylist([row]), data / f"{name}.parquet")
    heard = [{"ogg": sound.read_bytes(), "concept": colour} for colour in ("red", "green")]
    pq.write_table(pa.Table.from_pylist(heard), data / "audio_val.parquet")

    sizes = {"side": 16, "patch": 8, "width": 16, "depth": 1, "heads": 2}
    plan = Plan(steps=3, batch=4)
    trained = decoder.run(data, tmp_path / "run", plan, sizes=sizes, count=26, workers=1)
    assert (trained["scenes"], trained["pictures"], trained["images_drawn"]) == (26, 8, 12)
    assert "million parameters" in decoder.markdown(trained)
    shutil.copytree(tmp_path / "run" / "cache", tmp_path / "unet" / "cache")
    plan = Plan(steps=2, batch=4)
    baseline = decoder.run(
        data, tmp_path / "unet", plan, sizes=sizes, count=26, workers=1, unet=True, held_out=2, prior=4
    )
    assert baseline["images_drawn"] == 8
    assert "imu" in decoder.markdown(baseline)
    folder, sheet = tmp_path / "run" / "decoder", tmp_path / "sheet.png"
    means = TrainedDecoder.load(folder).network.means
    assert (means.norm(dim=1) > 0.1).all()

    options = {"scenes": 8, "triples": 2, "steps": 2, "tuned": 2, "data": data, "sheet": sheet, "prior": 8}
    result = json.loads(json.dumps(generation.run(folder, **options)))
    assert set(result["kinds"]) == {"image", "text", "audio", "depth", "thermal", "imu"}
    assert all(0 <= row["right"] <= 1 <= row["own_median_rank"] <= 8 for row in result["kinds"].values())
    assert result["real"]["audio"]["n"] == 2
    assert "| way | image | text |" in generation.markdown(result)
    chosen = TrainedDecoder.load(folder).config.crossings
    assert {str(kind) for kind in chosen} == {*result["kinds"], "video"}
    with Image.open(sheet) as picture:
        assert picture.height == 7 * generation.CELL


def test_the_unet_computes_as_much_as_the_transformer():
    unet = pytest.importorskip("benchmarks.unet")
    config = DecoderConfig(model="", digest="", dim=256)
    assert 0.95 < decoder.flops(unet.UNet(config)) / decoder.flops(Network(config)) < 1.05


def jpeg(colour):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "JPEG")
    return file.getvalue()


def test_the_figures_of_drawings_are_those_of_a_slow_count():
    rng = np.random.default_rng(0)
    drawn, gallery = (ranking.unit(rng.normal(size=(20, 8))) for _ in range(2))
    labels = rng.integers(4, size=20)
    order = np.argsort(-(drawn @ gallery.T), axis=1)
    expected = np.mean([labels[order[n, 0]] == labels[n] for n in range(20)])
    assert generation.right(drawn, gallery, labels, labels) == expected
    assert generation.ranks(drawn, gallery).tolist() == [1 + list(order[n]).index(n) for n in range(20)]


def test_the_best_way_of_each_kind_is_kept():
    row = dict.fromkeys(generation.WAYS, 0.1)
    table = {"image": row, "audio": row | {"prior 0.6": 0.5, "noise 1": 0.5, "shift": 0.4}}
    best = generation.best(table)
    assert best[Modality.IMAGE] == best[Modality.VIDEO] == generation.WAYS["nothing"]
    assert best[Modality.AUDIO] == generation.WAYS["noise 1"]


def test_emergence_compares_every_pair_of_modalities():
    result = json.loads(json.dumps(emergence.run("bundled", scenes=104, triples=8)))
    assert len(result["matrix"]) == 36
    by_pair = {(row["query"], row["answer"]): row for row in result["matrix"]}
    assert by_pair["image", "text"]["relation"] == "trained"
    assert by_pair["audio", "text"]["relation"] == "emergent"
    assert by_pair["imu", "text"]["right"] == "place"
    # Far above the chance of 1 in 96 on scenes that the model has not seen.
    assert by_pair["image", "text"]["p_at_1"] > 0.5
    assert by_pair["audio", "text"]["p_at_1"] > 0.3
    assert set(result["composition"]) == {"picture + sound", "picture only", "sound only"}
    assert "| image |" in emergence.markdown(result)


def test_every_file_of_a_corpus_is_accounted_for(tmp_path):
    write(sample(1, seed=0), tmp_path, width=96, height=72)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    result = corpus.run(tmp_path, labels=None, model="bundled")
    assert result["unaccounted"] == []
    assert len(result["skipped"]) == 1
    assert set(result["items_by_kind"]) == {"image", "text", "audio", "video", "depth", "thermal", "imu"}
    assert result["second_run_embedded"] == 0


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")  # Ray's
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra `cluster`")
def test_a_worker_a_node_and_a_driver_are_killed():
    result = cluster.torture(files=192, kills=3, nodes=2)
    assert result["kills"] == {"worker": 1, "node": 1, "driver": 1}
    assert result["beyond_lost"] <= 0.05 * result["lost"]
    assert "exactly once" in cluster.markdown({"torture": result})


@pytest.mark.parametrize("page", readme.PAGES)
def test_pages_show_what_the_program_says(page):
    text = (readme.ROOT / page).read_text(encoding="utf-8")
    assert text == readme.filled(text), "run python -m benchmarks.readme"


def test_the_card_is_about_the_weights_beside_it():
    from xsearch.models.checkpoint import load_config

    digest = load_config(BUNDLED)[1]
    for name in ("emergence", "edition", "reliability"):
        measured = json.loads((readme.RESULTS / f"{name}.json").read_text())
        assert measured.get("now", measured)["digest"] == digest, name


def test_emergence_measures_the_bundled_model_unless_told(monkeypatch):
    monkeypatch.setattr(emergence, "run", lambda model, **_: sys.exit(model))
    monkeypatch.setattr(sys, "argv", ["emergence"])
    with pytest.raises(SystemExit, match="bundled"):
        emergence.main()


def test_an_edition_is_compared_with_the_one_before():
    vectors = ranking.unit(np.random.default_rng(0).normal(size=(9, 8)))
    right = np.random.default_rng(1).random((4, 9)) < 0.3
    right[1] = False
    nearest = np.argsort(-vectors[:4] @ vectors.T, axis=1)[:, :5]
    first, counts = edition.hits(vectors[:4], vectors, right, 5)
    assert first.tolist() == [[right[q, row] for row in nearest[q]] for q in (0, 2, 3)]
    assert counts.tolist() == right[[0, 2, 3]].sum(axis=1).tolist()

    share = edition.figure(np.array([True] * 9 + [False]), 0.5)
    assert (share["value"], share["n"]) == (0.9, 10)
    assert (share["low"], share["high"]) == pytest.approx((0.596, 0.982), abs=1e-3)  # Wilson's
    values = np.linspace(0.2, 0.8, 100)
    mean = edition.figure(values, 0.1, 0.9)
    error = 1.96 * values.std() / 10
    assert (mean["low"], mean["high"]) == pytest.approx((0.5 - error, 0.5 + error), abs=0.004)

    now = {"figures": {"text -> photo: P@5": mean}}
    row = "| text -> photo: P@5, 90% at best | **50%** (47-53) | 10% | 100 |"
    assert row in edition.markdown({"now": now})
    both = edition.markdown({"now": now, "before": now})
    assert "| this edition | the one before |" in both
    assert "| **50%** (47-53) | 50% (47-53) | 10% |" in both


def test_towers_and_their_footprints_are_measured(tmp_path):
    part = dataclasses.replace
    towers = {name: part(getattr(HUGE, name), width=16, depth=2, heads=2) for name in TOWERS}
    config = part(HUGE, embed_dim=8, **towers)
    pictures = tmp_path / "pictures"
    write(sample(2, seed=0), pictures, width=96, height=72)
    result = towers_benchmark.run(
        tmp_path / "model", ["text, 10 ids", "audio"], [1], seconds=0, pictures=pictures, config=config
    )
    for row in result["rows"]:
        assert row["error"] < 1e-6
        assert row["gflop"] > 0
    assert result["pictures"]["bf16_cosine_min"] > 0.99
    assert "| text, 10 ids | 1 | fp32 |" in towers_benchmark.markdown(result)

    rounded = int8.run(tmp_path / "model", pictures, ["vision", "imu"], [1, 2], rounds=1, config=config)
    assert all(row["alone"] for tower in rounded["towers"] for row in tower["rows"])
    assert "| imu | 2 |" in int8.markdown(rounded)

    rows = footprint.run(tmp_path / "model", ["imu"], config)["towers"]
    assert [row["tower"] for row in rows] == ["imu"]
    assert "| imu |" in footprint.markdown({"towers": rows})


@pytest.mark.parametrize("name", ["kills", "flips", "stale", "filters"])
def test_nothing_goes_wrong_under_attack(name):
    seed = 9 if name == "flips" else 0  # damage of a file that nothing else holds
    result = json.loads(json.dumps(torture.run(5, seed, [name], rounds=1, scale=1)))
    row = result["classes"][name]
    assert row["problems"] == []
    assert (row["rounds"], row["wrong"]) == (1, 0)
    assert row["tried"] == row["survived"] > 0
    assert f"| {name} | {row['tried']:,} |" in torture.markdown(result)


def test_what_goes_wrong_under_attack_is_counted_and_kept(monkeypatch):
    class Failing:
        def __init__(self, folder, hand, scale): ...

        def round(self, folder, rng):
            (folder / "left").touch()
            if rng.random() < 0.5:
                raise torture.Wrong("a promise is broken")
            return Counter({"luck": 2})

    lines = []
    monkeypatch.setitem(torture.ATTACKS, "failing", Failing)
    row = torture.run(5, 0, ["failing"], rounds=9, say=lines.append)["classes"]["failing"]
    assert 0 < row["wrong"] < 9
    assert row["survived"] == 2 * (9 - row["wrong"])
    problem = row["problems"][0]
    (line,) = (line for line in lines if f"--seed {problem['seed']} --rounds 1" in line)
    kept = Path(re.search(r", in (.*?): a promise", line)[1])
    assert (kept / "left").exists()
    shutil.rmtree(kept.parent)


def test_a_killed_training_run_ends_as_another():
    result = resume.run(kills=1, seed=0, steps=20)
    assert result["kills"] == 1
    assert "1 kills during" in resume.markdown(result)


def test_an_ingest_is_compared_with_its_parts():
    result = ingest.run([6], sounds=2, unchanged=4, size=(160, 120), rounds=1)
    assert [row["items"] for row in result["rows"]] == [6, 2]
    assert all(row["decode_s"] > 0 for row in result["rows"])
    assert result["unchanged"]["files"] == 4
    assert "| 6 pictures |" in ingest.markdown(result)


def test_an_ingest_is_compared_with_its_embeddings_alone(tiny_model, tmp_path):
    hiding.make_files(tmp_path, 3, 1, 1, size=(64, 48))
    both = {mode: measure(tmp_path, str(tiny_model)) for mode, measure in hiding.MODES.items()}
    assert both["alone"]["items"] == both["ingest"]["items"] == 6
    assert "; pictures 3," in hiding.markdown(
        {"machine": "a CPU", "pictures": 3, "sounds": 1, "videos": 1, **both}
    )


def test_a_tower_costs_what_its_published_size_says():
    assert towers_benchmark.gflop_of("vision", HUGE) == pytest.approx(334, rel=0.01)  # ViT-H/14 at 224 pixels


CONES = vectors.Cones(2_000, dim=64, intrinsic=32, queries=40)


def test_made_up_vectors_have_a_modality_gap_and_the_same_content_on_both_sides(tmp_path):
    data = vectors.cones(tmp_path, CONES)
    again = vectors.cones(tmp_path / "again", CONES)
    np.testing.assert_array_equal(data.vectors, again.vectors)
    np.testing.assert_array_equal(data.truth, again.truth)
    other = vectors.cones(tmp_path, dataclasses.replace(CONES, seed=1))
    assert not np.array_equal(data.vectors, other.vectors)

    x = data.vectors.astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-3)
    cosines = x @ x.T
    same = data.kinds[:, None] == data.kinds
    assert cosines[same].mean() - cosines[~same].mean() > 0.2
    # What a query of another kind finds is far closer than what it does not.
    assert data.truth[0, 1, :, 0].mean() - (data.queries["cross"] @ x.T).mean() > 0.2


def test_the_answers_beside_the_vectors_are_those_of_a_full_sort(tmp_path):
    data = vectors.cones(tmp_path, CONES)
    for asking in vectors.ASKING:
        scores = data.queries[asking] @ data.vectors.astype(np.float32).T  # [Q, n]
        for limit in vectors.LIMITS:
            allowed = np.flatnonzero(data.shelves < limit)
            ids = allowed[np.argsort(-scores[:, allowed], axis=1)][:, : vectors.K]
            ids = np.pad(ids, ((0, 0), (0, vectors.K - ids.shape[1])), constant_values=-1)
            assert data.recall(asking, ids, limit) == 1
            ids[:, 0] = -1
            assert data.recall(asking, ids, limit) == pytest.approx(1 - 1 / min(vectors.K, len(allowed)))


def test_systems_are_compared_and_a_failure_is_a_row(tmp_path):
    folder = vectors.cones(tmp_path, CONES).folder
    names = ["xsearch", *(["hnswlib"] if find_spec("hnswlib") else [])]
    result = json.loads(json.dumps(search.run([folder], names)))
    for row in result["rows"]:
        assert row["problem"] is None
        assert min(row["recall_same"], row["recall_cross"]) >= 0.95
        assert row["disk_bytes"] > 2 * 64 * 2_000
    assert " ms, where 50% pass " in search.markdown(result)
    assert "| 2,000 | xsearch | exact scan |" in search.markdown(result)
    assert search.run([folder], names) == result  # nothing is measured twice

    late = search.run([folder], ["xsearch"], limit_s=0.1, fresh=True)
    assert late["rows"][0]["problem"] == "build: not done after 0.1 s"
    assert "build: not done" in search.markdown(late)


def test_threads_that_share_a_collection_are_timed_beside_a_writer(tmp_path):
    result = sharing.run(tmp_path, 400, dim=64, intrinsic=32, queries=20, threads=[1, 2], seconds=0.1)
    result = json.loads(json.dumps(result))
    assert [row["threads"] for row in result["rows"]] == [1, 2]
    for row in result["rows"]:
        assert row["alone"]["queries_per_s"] > 0
        assert row["beside"]["p50_ms"] <= row["beside"]["p99_ms"]
    assert "| threads | queries/s |" in sharing.markdown(result)


def test_a_server_is_loaded_beside_the_same_searches_in_process(tmp_path):
    result = serve.run(tmp_path, 300, intrinsic=32, queries=20, clients=[1, 2], seconds=0.1, minutes=0.005)
    result = json.loads(json.dumps(result))
    assert [(row["kind"], row["clients"]) for row in result["rows"]] == [
        (kind, clients) for kind in ("vector", "text", "picture") for clients in (1, 2)
    ]
    for row in result["rows"]:
        assert row["failed"] == 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert result["growth"]["requests"] > 0
    assert result["growth"]["failed"] == 0
    assert "| query | clients | requests/s |" in serve.markdown(result)


def test_growth_goes_on_as_measured():
    rows = [
        {
            "system": "a",
            "n": n,
            "problem": None,
            "setting": [8],
            "recall_same": 0.96,
            "recall_cross": 0.95,
            "own_bytes": 90 * n,
            "mapped_index_bytes": 10 * n,
            "build_s": n / 1e3,
            "p50_ms": (n / 1e4) ** 0.5,
        }
        for n in (10_000, 1_000_000)
    ]
    rows.append({**rows[0], "n": 100, "recall_cross": 0.94})  # not what was asked for
    line = search.growth(rows).splitlines()[2]
    assert line == "| a | 10,000 - 1,000,000 | 1.00 | 0.50 | 10 | 27.8 | 100.0 | 100 | 277.8 | 316.2 |"


def test_ways_to_rank_a_mixed_collection_are_compared():
    result = json.loads(json.dumps(ranking.run("bundled", scenes=24, seeds=1, subjects=["dog"])))
    assert len(result["rows"]) == 3 * 21 * 12
    figures = {
        (row["collection"], row["query"], row["way"]): (row["p_at_10"], row["ndcg_at_10"])
        for row in result["rows"]
    }
    of_program, by_hand = ranking.BALANCED, "median, 95th percentile and width of the kinds"
    for query in ("image", "image + text"):
        assert figures["even", query, of_program] == pytest.approx(figures["even", query, by_hand], abs=0.05)
        assert 0 < figures["even", query, "cosine"][1] <= 1
    assert "| cosine | 0." in ranking.markdown(result)


def test_ndcg_and_precision_are_what_the_books_say():
    worth = np.array([[2, 1, 0] + [0] * 9])
    first = np.arange(10)[None]
    assert ranking.measures(first, worth) == {"p_at_10": 0.1, "ndcg_at_10": 1.0}
    swapped = np.array([[1, 0, *range(2, 10)]])
    gain, discount = (1 + 3 / 1.584963), (3 + 1 / 1.584963)
    assert ranking.measures(swapped, worth)["ndcg_at_10"] == pytest.approx(gain / discount, abs=1e-6)


def test_a_collection_on_the_disk_is_searched_cold_and_warm(on_disk):
    result = json.loads(json.dumps(disk.run(on_disk, 2_000, dim=32, queries=3, threads=1, openings=2)))
    assert result["limit"] is None or result["limit"]["gb"] == 4
    assert [row["system"] for row in result["rows"]] == list(disk.NAMES)
    for row in result["rows"]:
        assert row["recall_same"] == row["recall_cross"] == 1  # by scanning
        assert row["cold"]["read_mb"] != 0
        assert row["warm"]["read_mb"] in (0, None)
        assert row["batch_warm"]["queries_per_s"] > 0
        assert len(row["open"]["ms"]) == 2
    assert "2,000 vectors of 32 dimensions" in disk.markdown(result)


def test_filters_are_measured_beside_the_same_queries_without_one(tmp_path):
    result = filtered.run(tmp_path, 3_000, (5, 900), dim=128, queries=5, recipe="IVF16,Flat")
    few, most = result["rows"]
    assert (few["share"], few["balanced_recall"], few["cosine_recall"]) == (0.005, 1, 1)
    assert most["cosine_recall"] > 0.8
    assert "| 90.0% |" in filtered.markdown(json.loads(json.dumps(result)))


def test_the_public_search_is_measured_beside_the_inner_one(tmp_path):
    (row,) = public.run(tmp_path, [600], dim=128, queries=4)["rows"]
    assert row["recall_balanced_same"] == row["recall_cosine_cross"] == 1
    assert min(row[f"{way}_p50_ms"] for way in ("inner", "balanced", "cosine")) > 0
    assert "| 600 | exact scan |" in public.markdown({"machine": "a CPU", "dim": 128, "rows": [row]})


def test_stages_of_a_search_are_timed_beside_a_graph(tmp_path):
    clusters = vectors.Clusters(2_000, dim=64, intrinsic=32, queries=40)
    result = json.loads(json.dumps(stages.measure(tmp_path / "measured", vectors.cones(tmp_path, clusters))))
    assert result["us"]["search_many, cosine"] > result["us"]["nearest lists"] > 0
    lists = result["curves"]["points"]["lists"]
    assert [point["visited"] for point in lists] == [16]
    assert min(lists[0]["recall_same"], lists[0]["recall_cross"]) > 0.8
    assert "| PCAR32,HNSW16_SQ8 |" in stages.markdown({"machine": "a CPU", **result})


def test_threads_that_wait_actively_are_timed():
    result = json.loads(json.dumps(waiting.run(1, beside=(0,), works=("training", "a product"))))
    assert [row["waits"] for row in result["rows"]] == ["the library", "xsearch"] * 2
    assert "| a product | 0 | xsearch |" in waiting.markdown(result)


def test_answers_of_a_labelled_folder_are_measured(tmp_path):
    paths = one_of_each(tmp_path, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    lines = ["path,modality,concept,concepts_all,pair_id"]
    lines += [
        f"{path.name},{kind},dog,dog|beach,{kind in ('image', 'depth')}" for kind, path in paths.items()
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    result = json.loads(json.dumps(answers.run(tmp_path, "bundled", scenes=12)))
    ours = result["ways"]["xsearch"]
    assert {"files: image", "files: imu", 'words: "{}"', "scenes", "sums: two files", "all"} <= set(ours)
    assert ours["all"]["own_first"] == 1
    assert ours["all"]["unreadable"] == 0
    assert all(0 < of["all"]["ndcg_at_10"] < 1 for of in result["ways"].values())
    assert "| **own file first** | 100% |" in answers.markdown(result)


def test_queries_with_and_without_an_answer_are_compared():
    result = json.loads(json.dumps(none.run("bundled", [48], draws=48, subjects=["dog", "car"])))
    by_pair = {(row["query"], row["answer"]): row for row in result["rows"] if row["collection"] == "48"}
    assert len(by_pair) == 36
    assert by_pair["image", "text"]["auc"] > 0.8
    for row in result["rows"]:
        assert row["answered"] >= row["unanswered"]
        assert row["reliability"] == sorted(row["reliability"])
    assert {row["collection"] for row in result["cuts"]} == {
        "48",
        "48, sums",
        "48, differences",
        "48, lacking",
    }
    assert "| imu |" in none.markdown(result)


def test_of_random_vectors_as_many_are_near_as_announced(tmp_path):
    rng = np.random.default_rng(0)
    items, asking = (ranking.unit(rng.normal(size=(n, 64))).astype(np.float32) for n in (400, 200))
    view = View(ranking.Mixed(Fingerprint("fake", "0", "1", 64), {Modality.AUDIO: items}).snapshot)
    queries = [Query((Part(Modality.AUDIO, vector),)) for vector in asking]
    counts = reliability.Counts()
    counts.add(view, queries, np.arange(200), Modality.AUDIO, np.ones((200, 400), bool))
    figures = counts.figures()["audio"]
    assert (figures["items"], figures["queries"]) == (400, 200)
    announced = np.array(reliability.ANNOUNCED)
    assert np.array(figures["measured"])[3:] == pytest.approx(announced[3:], rel=0.3)
    assert all(np.array(figures["low"]) <= figures["measured"])
    assert all(np.array(figures["high"]) >= figures["measured"])

    result = {"announced": reliability.ANNOUNCED, "sets": {"scenes": {"audio": figures}}}
    assert "| scenes | audio | 400 | 200 |" in reliability.markdown(result)
    reliability.draw(result, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width == 1000


def test_expected_is_compared_with_counts_on_scenes_and_real_media(tmp_path):
    paths = one_of_each(tmp_path, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    lines = ["path,modality,concept,concepts_all,pair_id"]
    lines += [f"{path.name},{kind},{kind},{kind}," for kind, path in paths.items()]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    result = json.loads(json.dumps(reliability.run("bundled", items=24, queries=4, corpus=tmp_path)))
    scenes, strict, media = result["sets"].values()
    assert {of["queries"] for of in scenes.values()} == {24}
    assert set(scenes) - set(strict) == {"imu"}
    assert set(media) == set(paths)
    for of in (*scenes.values(), *strict.values(), *media.values()):
        assert of["measured"] == sorted(of["measured"])
        assert of["measured"][-1] <= of["items"]


def test_the_area_and_the_best_cut_off_are_what_the_books_say():
    high, low = np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0])
    assert none.auc(high, low) == (2 + 1.5 + 1) / 6
    assert none.cut(high, low) == (1.0, 0.5)
    assert none.share(-np.log([0.5, 1.0, 2.0]), 1.0) == pytest.approx(2 / 3)


def test_the_figures_are_those_of_a_search():
    rng = np.random.default_rng(0)
    rows = ranking.unit(rng.normal(size=(2, 30, 64)) + 1).astype(np.float32)
    items = dict(zip((Modality.IMAGE, Modality.TEXT), rows, strict=True))
    view = View(ranking.Mixed(Fingerprint("fake", "0", "1", 64), items).snapshot)
    query = Query((Part(Modality.IMAGE, items[Modality.IMAGE][0]),))
    nearest = none.Nearest()
    nearest.add(view, [query], Modality.TEXT, np.array([[2] * 30]))
    embedded = embed([query], ranking.Vectors(view.snapshot.fingerprint))
    ((hit,),) = search_many(view, embedded, top=1, modality="text")
    figures = {name: values[0] for name, values in nearest.cases["answered"].items()}
    assert figures["expected"] == pytest.approx(-np.log(hit.expected), abs=1e-3)
    assert (figures["balanced"], figures["cosine"]) == pytest.approx((hit.balanced, hit.cosine), abs=1e-4)


def test_words_are_compared_and_timed(tmp_path):
    notes = tmp_path / "media" / "notes"
    notes.mkdir(parents=True)
    (notes / "NOTE_0002.md").write_text("a proxy error: timeout")
    (notes / "NOTE_0056.txt").write_text("a dog and Santa Claus")
    Image.new("RGB", (32, 32)).save(tmp_path / "dog.png")
    (tmp_path / "labels.csv").write_text(
        "path,modality,concept,concepts_all,caption,pair_id\n"
        "media/notes/NOTE_0056.txt,text,dog,dog|cat,,\n"
        "dog.png,image,dog,dog,a dog sits on Santa Claus,\n"
    )
    result = json.loads(json.dumps(words.run(tmp_path, "bundled", sizes=[200], notes=5)))
    found = {(row["way"], row["queries"]): row["hit_at_1"] for row in result["notes"]}
    assert found["words", "exact"] == found["both", "exact"] > found["meaning", "exact"]
    assert found["both", "all"] == found[f"both: {[*words.gates()][1]}", "all"]  # as the program does
    assert {row["way"] for row in result["mixed"]} == {way for way, _ in found}
    by_script = {(row["script"], row["way"]): row["mrr"] for row in result["scripts"]}
    for script in ("Chinese", "Thai"):
        assert by_script[script, "graphemes"] > max(0.9, by_script[script, "trigrams"])
    (row,) = result["timed"]
    assert row["bytes"] > 10_000
    assert row["words_3_p50_ms"] > 0
    assert "Words are" in words.markdown(result)


def test_localization_measures_scenes(monkeypatch, tmp_path):
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path))
    result = json.loads(json.dumps(localization.run("bundled", count=2)))
    assert result["scenes"]["pictures"] == 2
    assert len(result["scenes"]["queries"]) == 10
    for row in result["scenes"]["queries"]:
        shares = {name: share for name, share in row.items() if name not in ("query", "stated")}
        assert all(0 <= share <= 1 for share in shares.values())
        assert ("right" in shares) == (row["query"] in ("text", "audio"))
    assert "| audio | 0.10 |" in localization.markdown(result)


def test_localization_reads_the_layouts_of_public_data(tmp_path):
    """A hot spot in the middle of pictures that have it there."""
    frame = Image.new("RGB", (64, 48))
    clip, video = tmp_path / "vggss", tmp_path / "avs"
    for folder in (clip / "frames", clip / "audio"):
        folder.mkdir(parents=True)
    names = {"abc_000010": [[0.25, 0.0, 0.75, 1.0]], "abc_000020": [[0.0, 0.0, 0.1, 0.1]], "gone_000000": []}
    (clip / "vggss.json").write_text(json.dumps([{"file": n, "bbox": b} for n, b in names.items()]))
    for name in list(names)[:2]:
        frame.save(clip / "frames" / f"{name}.jpg")
        soundfile.write(clip / "audio" / f"{name}.wav", np.zeros(16_000), 16_000)
    for kind, ending in (("visual_frames", "png"), ("gt_masks", "png"), ("audio_wav", "wav")):
        inside = video / kind / "test" / "dog"
        (inside / "v1" if ending == "png" else inside).mkdir(parents=True)
    soundfile.write(video / "audio_wav" / "test" / "dog" / "v1.wav", np.zeros(16_000), 16_000)
    truth = Image.new("L", (64, 48))
    truth.paste(255, (16, 0, 48, 48))
    for second in (1, 2):
        frame.save(video / "visual_frames" / "test" / "dog" / "v1" / f"v1_{second}.png")
        truth.save(video / "gt_masks" / "test" / "dog" / "v1" / f"v1_{second}.png")
    (video / "s4_meta_data.csv").write_text("name,start,category,split\nv1,0,dog,test\nv2,0,dog,train\n")

    class Middle:
        """Hears everything in the middle half of a picture."""

        def locate(self, picture, query):
            heat = np.tile(1 - np.abs(np.linspace(-1, 1, 64, dtype=np.float32)), (48, 1))
            return Located((64, 48), (), heat, 0.0, 1.0, None)

    found = localization.on_vggss(Middle(), clip)
    assert found["pictures"] == 2
    assert found["ciou"] == pytest.approx(50)
    assert found["silent"] == 1
    assert 45 < found["auc"] < 55
    found = localization.on_avsbench(Middle(), video)
    assert found["pictures"] == 2
    assert found["miou"] > 95
    assert found["f_score"] > 0.95
    lines = localization.markdown({"model": "m", "digest": "0" * 8, "avsbench": found})
    assert "TPAVI" in lines
