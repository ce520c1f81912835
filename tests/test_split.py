"""Splits from lists, and speaker-disjoint ones."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import lines_of
from typer.testing import CliRunner

from avfeat.datasets import avlips
from avfeat.datasets.base import ids_of_paths, letters
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.manifest_cli import app
from avfeat.manifest_match import match_names
from avfeat.manifest_split import By, Resplit, SplitList, read_lists, split_by, split_from

COMMAND = CliRunner()


def manifest_of(*rows: Row) -> Manifest:
    return Manifest.from_rows(rows, DatasetInfo("tiny"))


def clips(*paths: str, label: int | None = 0) -> Manifest:
    return manifest_of(*(Row(path[:-4], path, label=label, split="old") for path in paths))


def splits_of(result: Resplit) -> dict[str, str | None]:
    return {row.clip_id: row.split for row in result.manifest.rows()}


def counts_of(result: Resplit) -> dict[str, tuple[int, int]]:
    return {each.split: (each.listed, each.found) for each in result.counts}


def write_lists(folder: Path, **lists: str) -> Path:
    for name, lines in lists.items():
        (folder / f"{name}_labels.csv").write_text("path,label\n" + lines)
    return folder


def test_listed_clips_take_their_lists_split_and_others_lose_theirs(tmp_path: Path) -> None:
    lists = read_lists([str(write_lists(tmp_path, train="x/a.mp4,0\nx/b.mp4,0.0\n", test="x/gone.mp4,1\nx/c.mp4,0\n"))])
    result = split_from(clips("x/a.mp4", "x/b.mp4", "x/c.mp4", "x/d.mp4"), lists)
    assert splits_of(result) == {"x/a": "train", "x/b": "train", "x/c": "test", "x/d": None}
    assert counts_of(result) == {"test": (2, 1), "train": (2, 2)}
    assert result.notes == ["1 clip in no list: without a split"]
    fewer = split_from(clips("x/a.mp4", "x/b.mp4", "x/c.mp4", "x/d.mp4"), lists, only_listed=True)
    assert fewer.manifest.clip_ids == ["x/a", "x/b", "x/c"]


def test_a_list_of_another_label_is_refused_and_one_of_a_missing_label_is_taken(tmp_path: Path) -> None:
    folder = write_lists(tmp_path, any="a.mp4,1.0\nb.mp4,0\n")
    lists = read_lists([f"val={folder / 'any_labels.csv'}"])
    with pytest.raises(ManifestError, match="1 clip with a label that contradicts the list's: a"):
        split_from(clips("a.mp4", "b.mp4"), lists)
    result = split_from(clips("a.mp4", "b.mp4", label=None), lists)
    assert [(row.split, row.label) for row in result.manifest.rows()] == [("val", 1), ("val", 0)]
    assert "2 clips had no label and took the list's" in result.notes


def test_lists_are_read_in_the_forms_that_papers_publish(tmp_path: Path) -> None:
    (tmp_path / "test_split.csv").write_text("source,category,full_path\nid1,A,FakeAVCeleb/R/a.mp4\n")
    (tmp_path / "mine.csv").write_text("path,split,label\na.mp4,dev,0\nb.mp4,test,1\n")
    assert read_lists([str(tmp_path)]) == [SplitList("test", ["FakeAVCeleb/R/a.mp4"], [None])]
    assert read_lists([str(tmp_path / "mine.csv")]) == [
        SplitList("dev", ["a.mp4"], [0]),
        SplitList("test", ["b.mp4"], [1]),
    ]


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"train": "a.mp4,0\n", "test": "a.mp4,0\n"}, "1 clip in more than one split: a.mp4"),
        ({"train": "a.mp4,0\na.mp4,0\n"}, "names a.mp4 twice"),
        ({"train": "a.mp4,2\n"}, "label '2', not 0 or 1"),
        ({}, "holds no list of a split"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(tmp_path: Path, lists: dict[str, str], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_lists([str(write_lists(tmp_path, **lists))])


def test_listed_files_of_one_name_and_two_suffixes_are_told_apart() -> None:
    paths = ["x/a.mp4", "x/a.avi", "x/b.mp4"]
    rows = [Row(clip_id, path) for clip_id, path in zip(ids_of_paths(paths), paths, strict=True)]
    lists = [SplitList("train", ["x/a.mp4", "x/b.mp4"], [0, 0]), SplitList("test", ["x/a.avi"], [1])]
    assert splits_of(split_from(manifest_of(*rows), lists)) == {"x/a.mp4": "train", "x/a.avi": "test", "x/b": "train"}


def test_lists_of_another_dataset_are_refused_with_an_example_of_both() -> None:
    with pytest.raises(ManifestError, match=r"not one of the 1 listed clips is in tiny; .* z.mp4, .* a/b"):
        split_from(clips("a/b.mp4"), [SplitList("train", ["z.mp4"], [None])])


def test_names_match_without_leading_folders_and_with_other_spelling() -> None:
    assert match_names(["val/id/1/real", "val/id/2/real"], ["id/2/real"]).found == ["val/id/2/real"]
    assert match_names(["R/a"], ["FakeAVCeleb/R/a"]).found == ["R/a"]
    respelt = match_names(["R/Asian (East)/a_b", "R/Caucasian (American)/x"], ["R/Asian_East/a_b"])
    assert respelt.found == ["R/Asian (East)/a_b"]
    assert respelt.note() == "matched without regard to blanks, brackets and underscores"
    assert match_names(["a"], ["a"]).note() == ""


def test_blanks_brackets_and_underscores_are_alike_and_nothing_else_is() -> None:
    same = ("Asian (East)/a b", "Asian_East/a_b", " Asian__East_/(a b)")
    assert {letters(name) for name in same} == {"Asian_East/a_b"}
    assert len({letters(name) for name in ("a/b", "a_b", "ab", "A/b", "a-b", "a/_/b")}) == 6


def test_a_missing_clip_never_falls_to_its_namesake_in_another_folder() -> None:
    assert match_names(["1_fake/7", "1_fake/8"], ["0_real/7", "1_fake/8"]).found == [None, "1_fake/8"]
    assert match_names(["1_fake/7"], ["0_real/7"]).found == [None]
    assert match_names(["0_real/7", "1_fake/7"], ["7"]).found == [None]


NAMES = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 5)), min_size=1, unique=True)


@given(known=NAMES, wanted=NAMES)
@settings(max_examples=60, deadline=None)
def test_whatever_matches_is_the_same_name_but_for_what_the_rule_leaves_out(
    known: list[tuple[str, str, int]], wanted: list[tuple[str, str, int]]
) -> None:
    ids = [f"{top}/{mid} ({number})" for top, mid, number in known]
    asked = [f"{top}/{mid}_{number}" for top, mid, number in wanted]
    match = match_names(ids, asked)
    for name, found in zip(asked, match.found, strict=True):
        same = name[:-2] + " (" + name[-1] + ")"
        assert found == (same if same in ids else None)


SPEAKERS = [f"id{number:05}" for number in range(400)]


def people(count: int, clips_each: int = 3) -> Manifest:
    rows = [
        Row(f"{name}/{clip}", f"{name}/{clip}.mp4", label=clip % 2, speaker=name)
        for name in SPEAKERS[:count]
        for clip in range(clips_each)
    ]
    return manifest_of(*rows)


def test_nobody_is_in_two_splits_and_the_shares_are_near_the_ratio() -> None:
    result = split_by(people(400), "speaker", [0.8, 0.1, 0.1])
    found = {each.split: each.found for each in result.counts}
    assert found.keys() == {"train", "val", "test"}
    assert sum(found.values()) == 1200
    assert 0.74 < found["train"] / 1200 < 0.86
    assert 0.05 < found["test"] / 1200 < 0.15
    owners = {(row.speaker, row.split) for row in result.manifest.rows()}
    assert len(owners) == 400


PEOPLE = st.lists(st.tuples(st.text("abcé/ 0", min_size=1, max_size=4), st.integers(1, 3)), min_size=1, max_size=12)


@given(
    early=PEOPLE,
    late=PEOPLE,
    ratio=st.lists(st.floats(0.1, 9), min_size=2, max_size=3),
    seed=st.integers(-5, 5),
    by=st.sampled_from(["speaker", "original"]),
)
@settings(max_examples=30, deadline=None)
def test_adding_clips_and_people_moves_nobody(
    early: list[tuple[str, int]], late: list[tuple[str, int]], ratio: list[float], seed: int, by: By
) -> None:
    def splits_of_groups(people: list[tuple[str, int]]) -> dict[str, set[str | None]]:
        rows = [
            Row(f"{at}.{clip}", "x.mp4", speaker=name, original=name)
            for at, (name, clips) in enumerate(people)
            for clip in range(clips)
        ]
        found: dict[str, set[str | None]] = {}
        for row in split_by(manifest_of(*rows), by, ratio, seed=seed).manifest.rows():
            found.setdefault(row.speaker or "", set()).add(row.split)
        return found

    few, many = splits_of_groups(early), splits_of_groups([*late, *early])
    assert {len(splits) for splits in many.values()} == {1}, "nobody is in two splits"
    assert few == {name: many[name] for name in few}


def test_the_same_seed_deals_the_same_and_another_one_anew() -> None:
    made = [splits_of(split_by(people(100), "speaker", [0.5, 0.5], seed=seed)) for seed in (1, 1, 2)]
    assert made[0] == made[1]
    assert made[0] != made[2]
    assert set(made[0].values()) == {"train", "test"}


def test_an_original_stays_with_all_that_was_made_from_it() -> None:
    rows = [Row(f"real/{k}", f"real/{k}.mp4") for k in range(50)]
    rows += [Row(f"fake/{k}-{j}", f"fake/{k}-{j}.mp4", original=f"real/{k}") for k in range(50) for j in range(2)]
    made = splits_of(split_by(manifest_of(*rows), "original", [1, 1]))
    assert all(made[f"fake/{k}-{j}"] == made[f"real/{k}"] for k in range(50) for j in range(2))
    assert set(made.values()) == {"train", "test"}


def test_clips_of_nobody_and_impossible_shares_are_refused() -> None:
    some = manifest_of(Row("a", "a.mp4", speaker="x"), Row("b", "b.mp4"))
    with pytest.raises(ManifestError, match=r"1 clip without a speaker to split by: b\. --by original"):
        split_by(some, "speaker", [1, 1])
    for ratio, names in (([1], None), ([0, 0], None), ([2, -1], None), ([1, 1], ["one"])):
        with pytest.raises(ManifestError, match="shares"):
            split_by(people(3), "speaker", ratio, names=names)
    assert split_by(people(1), "speaker", [1, 0]).notes[-1] == "no group fell to test: try another seed"


def test_a_manifest_without_splits_says_so_and_how_to_make_them() -> None:
    with pytest.raises(ManifestError, match=r"no clip in split 'train'; .*avfeat manifest split"):
        people(2).select("train")


def test_the_command_splits_by_lists_and_by_speaker(tmp_path: Path) -> None:
    people(60).write(tmp_path / "in.parquet")
    lists = write_lists(tmp_path, train="id00000/0.mp4,0\nid00000/1.mp4,1\n", test="id00001/0.mp4,0\n")
    out = tmp_path / "out.parquet"
    result = COMMAND.invoke(app, ["split", str(tmp_path / "in.parquet"), "--from", str(lists), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert len(Manifest.read(out).select("train")) == 2
    assert ["train", "2", "2", "1", "1"] in [line.split() for line in result.output.splitlines()]
    by = ["split", str(tmp_path / "in.parquet"), "--by", "speaker", "--ratio", "1,1", "--names", "a,b", "-o", str(out)]
    dealt = COMMAND.invoke(app, [*by, "--json"])
    facts = json.loads(dealt.stdout)
    assert [each["split"] for each in facts["splits"]] == ["a", "b"]
    assert Manifest.read(out).key == facts["manifest"]
    assert COMMAND.invoke(app, ["split", str(tmp_path / "in.parquet"), "-o", str(out)]).exit_code == 2


def as_on_disk(paths: list[str], prefix: str = "") -> list[str]:
    races = {f"{name}_{place}": f"{name} ({place})" for name, place in
             (("Asian", "East"), ("Asian", "South"), ("Caucasian", "American"), ("Caucasian", "European"))}  # fmt: skip
    return [prefix + "/".join(races.get(part, part) for part in path.split("/")) for path in paths]


@pytest.mark.shared
def test_the_official_splits_of_favc_come_out_on_the_releases_own_folders(shared: Path) -> None:
    folder = shared / "metadata" / "ssr-dfd" / "csv_metadata" / "favc"
    lists = read_lists([str(folder)])
    paths = as_on_disk([path for each in lists for path in each.paths])
    others = [path.replace("FakeVideo-FakeAudio", "FakeVideo-RealAudio") for path in paths if "FakeVideo" in path]
    result = split_from(clips(*paths, *others, label=None), lists)
    assert counts_of(result) == {"test": (3508, 3508), "train": (7041, 7041), "val": (782, 782)}
    assert all(row.split is None for row in result.manifest.rows() if "RealAudio" in row.path and "Fake" in row.path)
    gone = split_from(clips(*others, paths[0], label=None), lists)
    assert [each.found for each in gone.counts].count(0) == 2
    assert sum(each.found for each in gone.counts) == 1, "fakes of another type are not mistaken for missing ones"


@pytest.mark.shared
def test_the_official_splits_of_av1m_come_out_below_the_releases_train_and_val(shared: Path) -> None:
    lists = read_lists([str(shared / "metadata" / "ssr-dfd" / "csv_metadata" / "av1m")])
    paths = [f"{'val' if each.split == 'test' else 'train'}/{path}" for each in lists for path in each.paths]
    more = [f"test/{number:06}.mp4" for number in range(1000)]
    result = split_from(clips(*paths, *more, label=None), lists, only_listed=True)
    assert counts_of(result) == {"test": (5133, 5133), "train": (22972, 22972), "val": (2527, 2527)}
    assert {each.split: (each.real, each.fake) for each in result.counts}["test"] == (2495, 2638)
    assert len(result.manifest) == 22972 + 2527 + 5133
    assert all(row.path.startswith("val/") for row in result.manifest.select("test").rows())


@pytest.mark.shared
def test_the_official_test_set_of_avlips_is_the_whole_folder(shared: Path, tmp_path: Path) -> None:
    file = shared / "metadata" / "ssr-dfd" / "csv_metadata" / "avlips" / "test_labels.csv"
    (tmp_path / "0_real").mkdir()
    (tmp_path / "1_fake").mkdir()
    for line in lines_of(file):
        (tmp_path / line["path"]).touch()
    manifest = Manifest.from_rows(avlips.read(tmp_path).rows, avlips.ABOUT)
    result = split_from(manifest, read_lists([str(file)]))
    assert [(each.split, each.found, each.real, each.fake) for each in result.counts] == [("test", 7557, 3373, 4184)]


@pytest.mark.shared
def test_the_lists_of_avh_align_match_the_releases_of_favc_and_av1m(shared: Path) -> None:
    folder = shared / "metadata" / "avh-align"
    lists = read_lists([str(file) for file in sorted((folder / "favc").glob("*.csv"))])
    paths = [path.removeprefix("FakeAVCeleb/") for each in lists for path in each.paths]
    result = split_from(clips(*as_on_disk(paths), label=None), lists)
    assert all(each.listed == each.found > 0 for each in result.counts)
    assert [each.split for each in result.counts] == ["test", "train", "val"]
