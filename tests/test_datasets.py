"""Readers of releases, on small made releases in the releases' own formats."""

import gzip
import json
from pathlib import Path

import pytest
from releases import FRAMES, lay_out, put, write_tiny
from typer.testing import CliRunner

from avfeat.datasets import av1m, avlips, dfe2024, exddv, favc, lavdf, voxceleb2
from avfeat.datasets.base import Listing
from avfeat.datasets.json_list import read_objects
from avfeat.errors import ManifestError
from avfeat.manifest import Manifest
from avfeat.manifest_cli import app

COMMAND = CliRunner()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.mp4")


def by_id(listing: Listing) -> dict[str, object]:
    return {row.clip_id: row for row in listing.rows}


def folders(listing: Listing) -> list[tuple[str, int | None, int | None, int | None]]:
    return [(each.folder, each.listed, each.found, each.missing) for each in listing.folders]


FAVC_CLIPS = [
    ("id1", "-", "real", "RealVideo-RealAudio", "Asian (East)", "00007.mp4"),
    ("id1", "-", "rtvc", "RealVideo-FakeAudio", "Asian (East)", "00007_fake.mp4"),
    ("id1", "id2", "wav2lip", "FakeVideo-RealAudio", "Asian (East)", "00007_id2_a_b-c_wavtolip.mp4"),
    ("id1", "id2", "faceswap-wav2lip", "FakeVideo-FakeAudio", "Asian (East)", "00007_id2_wavtolip.mp4"),
    ("id1", "id2", "wav2lip", "FakeVideo-FakeAudio", "Asian (East)", "00007_id2_wavtolip.mp4"),
    ("id1", "0.mp4", "faceswap", "FakeVideo-RealAudio", "Asian (East)", "00099_0.mp4"),
    ("id3", "-", "real", "RealVideo-RealAudio", "African", "00001.mp4"),
]


def favc_metadata(edition: str) -> str:
    """The same clips under the header of a public copy, or under the release's own with its nameless last column."""
    heads = "source,target1,target2,method,category,type,race,gender"
    lines = [f"{heads},filename,path" if edition == "copy" else f"{heads},path,"]
    for source, target, method, kind, race, name in FAVC_CLIPS:
        prefix = "FakeAVCeleb_v1.2" if edition == "copy" else "FakeAVCeleb"
        folder = f"{prefix}/{kind}/{race}/men/{source}"
        lines.append(f"{source},{target},-,{method},X,{kind},{race},men,{name},{folder}")
    return "\r\n".join(lines) + "\r\n"


def favc_paths(race: str = "Asian (East)") -> list[str]:
    paths = {f"{kind}/{folder}/men/{source}/{name}" for source, _, _, kind, folder, name in FAVC_CLIPS}
    return sorted(path.replace("Asian (East)", race) for path in paths)


@pytest.mark.parametrize("edition", ["copy", "own"])
def test_favc_is_read_under_both_of_its_headers(tmp_path: Path, tiny: Path, edition: str) -> None:
    put(tmp_path, favc.METADATA, favc_metadata(edition))
    rows = by_id(favc.read(lay_out(tmp_path, favc_paths(), tiny)))
    assert len(rows) == 6
    real = rows["RealVideo-RealAudio/Asian (East)/men/id1/00007"]
    assert (real.label, real.audio_label, real.video_label, real.method, real.speaker) == (0, 0, 0, "real", "id1")
    assert (real.segments, real.audio_segments, real.original, real.split) == ((), (), None, None)
    voice = rows["RealVideo-FakeAudio/Asian (East)/men/id1/00007_fake"]
    assert (voice.label, voice.audio_label, voice.video_label) == (1, 1, 0)
    assert (voice.segments, voice.audio_segments, voice.video_segments) == (None, None, ())
    assert voice.original == real.clip_id
    lips = rows["FakeVideo-RealAudio/Asian (East)/men/id1/00007_id2_a_b-c_wavtolip"]
    assert (lips.label, lips.audio_label, lips.video_label, lips.original) == (1, 0, 1, real.clip_id)
    assert rows["FakeVideo-FakeAudio/Asian (East)/men/id1/00007_id2_wavtolip"].method == "faceswap-wav2lip|wav2lip"
    assert rows["FakeVideo-RealAudio/Asian (East)/men/id1/00099_0"].original is None


def test_favc_has_the_same_ids_whichever_way_its_folders_are_spelt(tmp_path: Path, tiny: Path) -> None:
    put(tmp_path, favc.METADATA, favc_metadata("copy"))
    listing = favc.read(lay_out(tmp_path, favc_paths("Asian_East"), tiny))
    assert {row.clip_id + ".mp4" for row in listing.rows} == set(favc_paths())
    assert {row.path for row in listing.rows} == set(favc_paths("Asian_East"))
    assert [note.split(":")[0] for note in listing.notes] == [
        "1 clips are listed with two methods, both are named",
        "1 fakes name no real clip of their person",
    ]


def test_a_partial_release_is_counted_by_folder_and_gives_what_is_there(tmp_path: Path, tiny: Path) -> None:
    put(tmp_path, favc.METADATA, favc_metadata("copy"))
    there = [path for path in favc_paths() if path.startswith("FakeVideo")]
    listing = favc.read(lay_out(tmp_path, [*there, "FakeVideo-RealAudio/stray.mp4"], tiny))
    assert [row.path for row in listing.rows] == [path for path in dict.fromkeys(favc_order()) if path in there]
    assert sorted(folders(listing)) == [
        ("FakeVideo-FakeAudio", 1, 1, 0),
        ("FakeVideo-RealAudio", 2, 2, 0),
        ("RealVideo-FakeAudio", 1, 0, 1),
        ("RealVideo-RealAudio", 2, 0, 2),
    ]
    assert listing.notes[-1] == ("1 videos on disk that no list names were left out: FakeVideo-RealAudio/stray.mp4")
    lips = by_id(listing)["FakeVideo-RealAudio/Asian (East)/men/id1/00007_id2_a_b-c_wavtolip"]
    assert lips.original == "RealVideo-RealAudio/Asian (East)/men/id1/00007", "named although it is not there"


def favc_order() -> list[str]:
    return [f"{kind}/{race}/men/{source}/{name}" for source, _, _, kind, race, name in FAVC_CLIPS]


def test_a_release_of_which_nothing_is_there_is_an_error_unless_nobody_looks(tmp_path: Path) -> None:
    put(tmp_path, favc.METADATA, favc_metadata("copy"))
    with pytest.raises(ManifestError, match="not one of the 6 listed clips is there"):
        favc.read(tmp_path)
    assert len(favc.read(tmp_path, look=False).rows) == 6
    assert {each.found for each in favc.read(tmp_path, look=False).folders} == {None}


def test_metadata_one_folder_down_are_pointed_at(tmp_path: Path) -> None:
    put(tmp_path / "FakeAVCeleb_v1.2", favc.METADATA, favc_metadata("copy"))
    with pytest.raises(ManifestError, match=r"has no meta_data.csv: give .*FakeAVCeleb_v1\.2"):
        favc.read(tmp_path)


def test_favc_metadata_of_another_form_are_refused(tmp_path: Path) -> None:
    put(tmp_path, favc.METADATA, favc_metadata("copy").replace("RealVideo-FakeAudio", "Nonsense"))
    with pytest.raises(ManifestError, match="type 'Nonsense'"):
        favc.read(tmp_path)


def av1m_entry(file: str, kind: str, **more: object) -> dict[str, object]:
    entry = {"file": file, "original": None, "modify_type": kind, "audio_model": None, "fake_segments": []}
    entry |= {"audio_fake_segments": [], "visual_fake_segments": [], "video_frames": 100, "audio_frames": 64_000}
    return entry | more


def av1m_release(root: Path) -> Path:
    segment = [[1.2, 1.62]]
    entries = [
        av1m_entry(
            "id1/yt/1/real.mp4", "real", original="VoxCeleb2/dev/mp4/id1/yt/1.mp4", visual_fake_segments=segment
        ),
        av1m_entry(
            "id1/yt/1/fake_video_fake_audio.mp4",
            "both-modified",
            original="id1/yt/1/real.mp4",
            audio_model="vits",
            fake_segments=segment,
            audio_fake_segments=[[1.2, 1.58]],
            visual_fake_segments=segment,
        ),
        av1m_entry(
            "id1/yt/1/real_video_fake_audio.mp4",
            "audio_modified",
            original="id1/yt/1/real.mp4",
            fake_segments=segment,
            audio_fake_segments=segment,
            visual_fake_segments=segment,
        ),
    ]
    put(root, "val_metadata.json", json.dumps(entries, indent=1))
    return put(root, "test_files.txt", "000000.mp4\n000001.mp4\n")


AV1M_PATHS = [f"val/id1/yt/1/{kind}.mp4" for kind in ("real", "fake_video_fake_audio", "real_video_fake_audio")]


def test_av1m_goes_by_modify_type_and_leaves_hidden_labels_null(tmp_path: Path, tiny: Path) -> None:
    root = lay_out(av1m_release(tmp_path), [*AV1M_PATHS, "test/000000.mp4"], tiny)
    listing = av1m.read(root)
    real, both, voice, hidden = (by_id(listing)[path[:-4]] for path in [*AV1M_PATHS, "test/000000.mp4"])
    assert (real.label, real.segments, real.video_segments, real.original) == (0, (), (), None)
    assert (both.label, both.audio_label, both.video_label, both.method) == (1, 1, 1, "both_modified+vits")
    assert (both.segments, both.audio_segments) == (((1.2, 1.62),), ((1.2, 1.58),))
    assert (both.original, both.speaker, both.split) == ("val/id1/yt/1/real", "id1", "val")
    assert (voice.audio_label, voice.video_label, voice.video_segments) == (1, 0, ())
    assert (hidden.label, hidden.audio_label, hidden.segments, hidden.speaker) == (None, None, None, None)
    assert hidden.split == "test"
    assert folders(listing) == [("test", 2, 1, 1), ("val", 3, 3, 0)]
    assert "2 listed clips have hidden labels: null" in listing.notes
    assert real.duration_seconds == 4.0


def test_av1m_in_a_doubled_folder_keeps_its_ids(tmp_path: Path, tiny: Path) -> None:
    root = lay_out(av1m_release(tmp_path), [f"val/{path}" for path in AV1M_PATHS], tiny)
    rows = by_id(av1m.read(root))
    assert rows["val/id1/yt/1/real"].path == "val/val/id1/yt/1/real.mp4"


def test_av1m_plusplus_is_read_with_null_lists_and_parts_of_real_clips(tmp_path: Path, tiny: Path) -> None:
    entries = [
        av1m_entry("vox_celeb_2/id7/yt/1/real.mp4", "real", original="VoxCeleb2/dev/mp4/id7/yt/1.mp4"),
        av1m_entry("vox_celeb_2/id7/yt/1/real_p1.mp4", "real", original="vox_celeb_2/id7/yt/1/real.mp4"),
        av1m_entry("lrs3/yt/33/fake.mp4", "both_modified", audio_model="vits", video_model="Talklip"),
        av1m_entry(
            "silent_videos/subject_1_abc_vid_1_1/fake.mp4",
            "visual_modified",
            video_model="diff2lip",
            audio_fake_segments=None,
            audio_frames=0,
        ),
    ]
    put(tmp_path, "val_metadata.json", json.dumps(entries))
    lay_out(tmp_path, [f"val/{entry['file']}" for entry in entries], tiny)
    whole, part, lrs3, silent = av1m.read(tmp_path).rows
    assert (whole.original, part.original) == (None, whole.clip_id)
    assert (whole.speaker, lrs3.speaker, silent.speaker) == ("id7", None, "subject_1")
    assert (lrs3.method, silent.method) == ("both_modified+vits+Talklip", "visual_modified+diff2lip")
    assert (silent.audio_segments, silent.has_audio) == ((), False)


def as_single_files(entries: list[dict[str, object]], root: Path, folder: str) -> None:
    for entry in entries:
        file = (Path(folder) / str(entry["file"])).with_suffix(".json")
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        put(root, str(file), json.dumps(entry))


@pytest.mark.parametrize("folder", ["val_metadata", "val_metadata/val_metadata", "val", "val/val"])
def test_av1m_is_the_same_read_from_the_json_files_of_single_clips(tmp_path: Path, tiny: Path, folder: str) -> None:
    listed = av1m.read(lay_out(av1m_release(tmp_path / "listed"), AV1M_PATHS, tiny))
    root = lay_out(tmp_path / "single", AV1M_PATHS, tiny)
    as_single_files(json.loads((tmp_path / "listed" / "val_metadata.json").read_text()), root, folder)
    put(root, "test_files.txt", "000000.mp4\n")
    put(root / "val", "._real.json", "what other systems leave beside files")
    single = av1m.read(root)
    assert by_id(single) == by_id(listed)
    assert folders(single) == [("test", 1, 0, 1), ("val", 3, 3, 0)]
    assert single.notes == [
        f"val has no val_metadata.json: its clips are those of the JSON files below {folder.partition('/')[0]}",
        "1 listed clips have hidden labels: null",
    ]


def test_av1m_goes_by_a_splits_list_where_it_has_one_and_names_folders_without_metadata(
    tmp_path: Path, tiny: Path
) -> None:
    root = lay_out(av1m_release(tmp_path), [*AV1M_PATHS, "train/id2/yt/1/real.mp4", "more/1.mp4"], tiny)
    as_single_files([av1m_entry("id9/yt/1/real.mp4", "real")], root, "val_metadata")
    as_single_files([av1m_entry("id2/yt/1/real.mp4", "real")], root, "train")
    listing = av1m.read(root)
    assert folders(listing) == [("test", 2, 0, 2), ("train", 1, 1, 0), ("val", 3, 3, 0)]
    assert "folders without metadata were left out: more" in listing.notes


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1]", r"1\.json is '\[1\]', where a JSON object is needed"), ("{", r"1\.json cannot be read as JSON"),
     ("{}", "has no field original|has no field modify_type")],
)  # fmt: skip
def test_av1m_names_the_json_file_of_a_clip_that_is_of_another_form(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path / "train_metadata", "1.json", text)
    with pytest.raises(ManifestError, match=words):
        av1m.read(tmp_path, look=False)


@pytest.mark.parametrize(
    "odd",
    [{"fake_segments": [[1.2]]}, {"fake_segments": 3}, {"video_frames": "100"}, {"file": 7}, {"file": "vox_celeb_2"}],
)
def test_av1m_names_the_entry_with_a_value_that_cannot_be_read(tmp_path: Path, odd: dict[str, object]) -> None:
    entry = av1m_entry("id1/a.mp4", "both_modified") | odd
    put(tmp_path, "val_metadata.json", json.dumps([av1m_entry("id0/good.mp4", "real"), entry]))
    with pytest.raises(ManifestError, match=f"val_metadata.json: the entry of {entry['file']} has a value"):
        av1m.read(tmp_path, look=False)


def test_av1m_without_any_metadata_says_which_are_looked_for(tmp_path: Path, tiny: Path) -> None:
    lay_out(tmp_path, AV1M_PATHS, tiny)
    with pytest.raises(ManifestError, match=r"has no train_metadata\.json or val_metadata\.json or test_files\.txt"):
        av1m.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"file": 1}', "not a JSON list"),
        ('[{"file": "a.mp4"', "breaks off or is damaged after 0 entries"),
        ("[1]", "entry 0 is '1'"),
        ('[{"file": "a.mp4"}]', "the entry of a.mp4 has no field modify_type"),
        ('[{"file": "a.mp4", "modify_type": "swapped"}]', "modify_type 'swapped'"),
    ],
)
def test_av1m_metadata_of_another_form_are_refused(tmp_path: Path, text: str, words: str) -> None:
    put(tmp_path, "val_metadata.json", text)
    with pytest.raises(ManifestError, match=words):
        av1m.read(tmp_path, look=False)


@pytest.mark.parametrize("chunk_characters", [1, 7, 1000])
def test_a_long_list_is_the_same_read_in_chunks_of_any_size(tmp_path: Path, chunk_characters: int) -> None:
    entries = [{"file": f"é{number}.mp4", "deep": [[number, {"a": "]},{"}], None]} for number in range(20)]
    put(tmp_path, "list.json", "\n" + json.dumps(entries, indent=2, ensure_ascii=False) + "\n")
    assert list(read_objects(tmp_path / "list.json", chunk_characters)) == entries


def test_avlips_goes_by_its_folders_and_says_what_is_inferred(tmp_path: Path, tiny: Path) -> None:
    lay_out(tmp_path, ["0_real/3.mp4", "1_fake/3.mp4", "1_fake/4.mp4", "other/5.mp4"], tiny)
    put(tmp_path / "wav", "3.wav", "")
    listing = avlips.read(tmp_path)
    assert [(row.clip_id, row.label, row.audio_label, row.video_label, row.original) for row in listing.rows] == [
        ("0_real/3", 0, 0, 0, None),
        ("1_fake/3", 1, None, 1, "0_real/3"),
        ("1_fake/4", 1, None, 1, None),
    ]
    assert [row.segments for row in listing.rows] == [(), None, None]
    assert folders(listing) == [("0_real", None, 1, None), ("1_fake", None, 2, None)]
    assert listing.notes[0] == "1 fakes have the number of a real clip, which is inferred to be their original"
    with pytest.raises(ManifestError, match="0_real or 1_fake"):
        avlips.read(tmp_path / "wav")


DFE_LINES = [
    ("a-_Z.mp4", "Fake", "Unknown", 1, 1, 1, None),
    ("b.webm", "Real", "Real", 0, 0, 0, 0),
    ("c.mp4", "Real", "Unknown", None, 0, 0, None),
    ("d.mp4", "Unknown", "Unknown", None, None, None, None),
    ("e.mp4", "Real", "Fake", 1, 0, 0, 1),
]


@pytest.mark.parametrize(("rule", "column"), [("either", 3), ("video", 4), ("audio", 6)])
def test_dfe2024_labels_follow_the_stated_rule_and_unknown_stays_null(
    tmp_path: Path, tiny: Path, rule: dfe2024.Rule, column: int
) -> None:
    text = "Filename,Date,Video Ground Truth,Audio Ground Truth,Public Comments,Finetuning Set\n"
    for number, line in enumerate(DFE_LINES):
        text += f'{line[0]},2024-01-01,{line[1]},{line[2]},"so, ""it"" is",{"train" if number % 2 else "test"}\n'
    put(tmp_path, dfe2024.METADATA, text)
    lay_out(tmp_path, [f"video-data/{line[0]}" for line in DFE_LINES], tiny)
    listing = dfe2024.read(tmp_path, rule=rule)
    assert [row.label for row in listing.rows] == [line[column] for line in DFE_LINES]
    assert [row.video_label for row in listing.rows] == [line[5] for line in DFE_LINES]
    assert [row.audio_label for row in listing.rows] == [line[6] for line in DFE_LINES]
    assert listing.rows[1].split == "train"
    assert listing.notes[0].startswith(f"label is {dfe2024.RULES[rule]}; listed are ")


VOX = ["dev/mp4/id1/-a_B/00001.mp4", "dev/mp4/id1/-a_B/00002.mp4", "test/mp4/id2/_x/00001.mp4"]


def test_voxceleb2_is_real_throughout_and_counts_its_people(tmp_path: Path, tiny: Path) -> None:
    lay_out(tmp_path, [*VOX, "dev/mp4/stray.mp4"], tiny)
    put(tmp_path, voxceleb2.PEOPLE, "\ufeffVoxCeleb2 ID,VGGFace2 ID,Gender,Set\nid1 ,n1 ,m ,dev \nid2 ,n2 ,f ,dev \n")
    listing = voxceleb2.read(tmp_path)
    assert folders(listing) == [("dev", None, 2, None), ("test", None, 1, None)]
    assert [(row.path, row.split, row.speaker, row.label, row.segments) for row in listing.rows] == [
        (VOX[0], "dev", "id1", 0, ()),
        (VOX[1], "dev", "id1", 0, ()),
        (VOX[2], "test", "id2", 0, ()),
    ]
    assert listing.notes == [
        "dev: 2 of the 2 people in vox2_meta.csv have clips here",
        "test: 0 of the 0 people in vox2_meta.csv have clips here",
        "1 people lie in another set than vox2_meta.csv says: id2",
    ]
    put(tmp_path, voxceleb2.PEOPLE, "VoxCeleb2ID,VGGFace2ID,Gender,Set\r\nid1,n1,m,dev\r\nid2,n2,f,test\r\n")
    assert len(voxceleb2.read(tmp_path).notes) == 2


def test_voxceleb2_takes_the_clips_of_a_list_only(tmp_path: Path, tiny: Path) -> None:
    lay_out(tmp_path, VOX, tiny)
    names = "\n".join(path[:-4] for path in [*VOX[1:], "dev/mp4/id9/z/00001.mp4"]) + "\n"
    put(tmp_path, "english.id", names)
    (tmp_path / "english.id.gz").write_bytes(gzip.compress(names.encode()))
    for file in ("english.id", "english.id.gz"):
        listing = voxceleb2.read(tmp_path, clips=tmp_path / file)
        assert [row.path for row in listing.rows] == VOX[1:]
        assert folders(listing) == [("dev", 2, 1, 1), ("test", 1, 1, 0)]
    put(tmp_path, "wrong.id", "id1/-a_B/00001\n")
    with pytest.raises(ManifestError, match="1 lines unlike"):
        voxceleb2.read(tmp_path, clips=tmp_path / "wrong.id")


def test_lavdf_gives_each_modified_stream_the_periods_of_the_clip(tmp_path: Path, tiny: Path) -> None:
    def entry(number: int, video: bool, audio: bool, periods: list[list[float]], original: str | None) -> object:
        return {
            "file": f"dev/{number:06}.mp4", "n_fakes": len(periods), "fake_periods": periods, "duration": 4.2,
            "original": original, "modify_video": video, "modify_audio": audio, "split": "dev", "video_frames": 103,
        }  # fmt: skip

    entries = [
        entry(1, False, False, [], None),
        entry(2, True, False, [[1.0, 1.5], [2.0, 2.25]], "dev/000001.mp4"),
        entry(3, True, True, [], "dev/000001.mp4"),
    ]
    put(tmp_path, "metadata.json", json.dumps(entries))
    listing = lavdf.read(lay_out(tmp_path, [f"dev/{number:06}.mp4" for number in (1, 2, 3)], tiny))
    real, video, both = listing.rows
    assert (real.label, real.segments, real.method, real.original, real.split) == (0, (), "real", None, "dev")
    assert (video.audio_label, video.video_label, video.method) == (0, 1, "video")
    assert (video.segments, video.audio_segments) == (((1.0, 1.5), (2.0, 2.25)), ())
    assert video.video_segments == video.segments
    assert (video.original, both.method) == ("dev/000001", "video+audio")
    assert listing.notes == ["1 clips whose fake periods contradict n_fakes or the modified streams: dev/000003"]


@pytest.mark.parametrize("odd", [{"fake_periods": [[1.0]]}, {"modify_audio": "yes"}, {"file": None}])
def test_lavdf_names_the_entry_with_a_value_that_cannot_be_read(tmp_path: Path, odd: dict[str, object]) -> None:
    entry = {"file": "dev/1.mp4", "fake_periods": [], "original": None, "modify_video": False, "modify_audio": True}
    put(tmp_path, "metadata.json", json.dumps([entry | {"split": "dev"} | odd]))
    with pytest.raises(ManifestError, match=r"metadata.json: the entry of (dev/1.mp4|None) has a value"):
        lavdf.read(tmp_path, look=False)


EXDDV_HEAD = "id,username,movie_name,text,dataset,manipulation,click_locations,difficulty,split\n"


def exddv_line(
    name: str, dataset: str, manipulation: str, split: str = "train", click: str = '{""9"": {""x"": 0.5}}'
) -> str:
    return f'0,Annotator1,{name},"odd, ""very""",{dataset},{manipulation},"{click}",2,{split}\n'


def test_exddv_finds_the_videos_of_other_datasets_by_name_and_manipulation(tmp_path: Path, tiny: Path) -> None:
    two = '{""100"": {""x"": 0.5, ""y"": 1.003}, ""23"": {""x"": 0.1, ""y"": 0.2}}'
    lines = [
        exddv_line("1_2.mp4", "Farceforensics++", "Face2Face", click=two),
        exddv_line("1_2.mp4", "Farceforensics++", "FaceSwap", "val"),
        exddv_line("9_W0.mp4", "Deeperforensics", "end_to_end", "test"),
        exddv_line("uuid.mp4", "BioDeepAV", "videos"),
        exddv_line("uuid.mp4", "BioDeepAV", "videos", click=two),
        exddv_line("gone.mp4", "DeepfakeDetection", "dfdc_train_part_2"),
    ]
    put(tmp_path, exddv.METADATA, EXDDV_HEAD + "".join(lines))
    places = [
        "ff/manipulated_sequences/Face2Face/c23/videos/1_2.mp4",
        "ff/manipulated_sequences/FaceSwap/c23/videos/1_2.mp4",
        "DeeperForensics/end_to_end/c23/videos/9_W0.mp4",
        "bio/uuid.mp4",
    ]
    listing = exddv.read(lay_out(tmp_path, places, tiny))
    assert [(row.clip_id, row.path, row.split, row.method) for row in listing.rows] == [
        ("FaceForensics++/Face2Face/1_2", places[0], "train", "Face2Face"),
        ("FaceForensics++/FaceSwap/1_2", places[1], "val", "FaceSwap"),
        ("DeeperForensics/end_to_end/c23/videos/9_W0", places[2], "test", "end_to_end"),
        ("BioDeepAV/uuid", places[3], "train", "videos"),
    ]
    assert {(row.label, row.video_label, row.audio_label, row.segments) for row in listing.rows} == {(1, 1, None, None)}
    assert listing.notes == ["1 annotated twice, listed once: BioDeepAV/uuid"]
    assert ("DFDC/dfdc_train_part_2", 1, 0, 1) in folders(listing)
    lay_out(tmp_path, ["ff/manipulated_sequences/FaceSwap/raw/videos/1_2.mp4"], tiny)
    with pytest.raises(ManifestError, match=r"FaceSwap/1_2.mp4 could be any of .*c23.*raw"):
        exddv.read(tmp_path)


def test_exddv_clicks_come_in_the_order_of_their_frames(tmp_path: Path) -> None:
    two = '{""100"": {""x"": 0.5, ""y"": 1.003}, ""23"": {""x"": 0.1, ""y"": 0.2}}'
    put(tmp_path, exddv.METADATA, EXDDV_HEAD + exddv_line("a.mp4", "BioDeepAV", "videos", click=two))
    said = exddv.read_annotations(tmp_path)["BioDeepAV/a"]
    assert said == [exddv.Annotation((exddv.Click(23, 0.1, 0.2), exddv.Click(100, 0.5, 1.003)), 'odd, "very"', 2)]
    put(tmp_path, exddv.METADATA, EXDDV_HEAD + exddv_line("a.mp4", "BioDeepAV", "videos"))
    with pytest.raises(ManifestError, match=r"the clicks or the difficulty of a.mp4"):
        exddv.read_annotations(tmp_path)


def test_the_command_builds_probes_and_reports_a_partial_release(tmp_path: Path, tiny: Path) -> None:
    root, out = tmp_path / "AV1M", tmp_path / "av1m.parquet"
    lay_out(av1m_release(root), AV1M_PATHS, tiny)
    result = COMMAND.invoke(app, ["build", "av1m", str(root), "-o", str(out)])
    assert result.exit_code == 0, result.output
    manifest = Manifest.read(out)
    assert (manifest.info.name, manifest.info.root) == ("av1m", str(root))
    assert manifest.info.licence.startswith("CC BY-NC 4.0")
    row = manifest.row("val/id1/yt/1/real")
    assert (row.source_frames, row.width, row.has_audio) == (FRAMES, 32, True)
    assert row.duration_seconds == pytest.approx(FRAMES / 25, abs=0.04)
    lines = [line.split() for line in result.output.splitlines()]
    assert ["folder", "listed", "found", "missing"] in lines
    assert ["test", "2", "0", "2"] in lines
    assert ["val", "3", "3", "0"] in lines
    listed = COMMAND.invoke(app, ["build", "av1m", str(root), "-o", str(out), "--no-probe", "--name", "whole"])
    assert listed.exit_code == 0
    assert (len(Manifest.read(out)), Manifest.read(out).info.name) == (5, "whole")
    assert ["test", "2", "not", "looked", "for", "unknown"] in [line.split() for line in listed.output.splitlines()]


def test_options_of_single_releases_reach_their_readers(tmp_path: Path, tiny: Path) -> None:
    lay_out(tmp_path, [*VOX, "0_real/1.mp4"], tiny)
    put(tmp_path, "few.id", VOX[0][:-4])
    out = tmp_path / "out.parquet"
    vox = COMMAND.invoke(app, ["build", "voxceleb2", str(tmp_path), "--list", str(tmp_path / "few.id"), "-o", str(out)])
    assert (vox.exit_code, len(Manifest.read(out))) == (0, 1), vox.output
    lips = COMMAND.invoke(app, ["build", "avlips", str(tmp_path), "-o", str(out)])
    assert (lips.exit_code, Manifest.read(out).clip_ids) == (0, ["0_real/1"]), lips.output
    put(tmp_path, dfe2024.METADATA, ",".join(["Filename,Video Ground Truth,Audio Ground Truth", "Finetuning Set\n"]))
    with (tmp_path / dfe2024.METADATA).open("a") as file:
        file.write("1.mp4,Real,Unknown,train\n")
    lay_out(tmp_path, ["video-data/1.mp4"], tiny)
    for rule, label in (("either", None), ("video", 0)):
        made = COMMAND.invoke(app, ["build", "dfe2024", str(tmp_path), "-o", str(out), "--label", rule])
        assert (made.exit_code, [row.label for row in Manifest.read(out).rows()]) == (0, [label]), made.output
