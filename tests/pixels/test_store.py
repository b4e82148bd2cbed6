"""The store: right after a kill, a race, damage, a change, or a full disk."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from drawn import png_files

from siamura.pixels import CLAHE, Preprocess, StoreError, read_image
from siamura.pixels.store import open_store, preprocess_all

PRE = Preprocess(size=32)


def fresh(paths, pre=PRE):
    """What must be in the store: one file after the other, nothing parallel, nothing kept."""
    return np.stack([pre(read_image(path)) for path in paths])


def stores(cache):
    return sorted(path for path in Path(cache).iterdir() if path.is_dir())


@pytest.fixture
def settled(monkeypatch):
    """Take files for old enough at once, so that their digests are remembered."""
    monkeypatch.setattr("siamura.pixels.digests.SETTLED_NS", -(10**12))


@pytest.fixture
def reads(monkeypatch):
    """Paths of the files that are decoded, in order."""
    import siamura.pixels.store as store

    seen = []
    decode = store.decode_with_remarks

    def counted(data, path):
        seen.append(str(path))
        return decode(data, path)

    monkeypatch.setattr(store, "decode_with_remarks", counted)
    return seen


def test_what_is_kept_is_what_one_loop_gives(tmp_path):
    paths = png_files(tmp_path / "in", 50)
    stored = open_store(paths, PRE, tmp_path / "cache", progress=False)
    assert isinstance(stored.images, np.memmap)
    assert not stored.images.flags.writeable
    assert stored.rows.tolist() == list(range(50))
    np.testing.assert_array_equal(stored.images, fresh(paths))
    np.testing.assert_array_equal(preprocess_all(paths, PRE, progress=False).images, fresh(paths))
    assert [path.name.endswith(".partial") for path in stores(tmp_path / "cache")] == [False]


def test_a_second_opening_decodes_nothing(tmp_path, reads):
    paths = png_files(tmp_path / "in", 20)
    first = open_store(paths, PRE, tmp_path / "cache", progress=False)
    assert sorted(reads) == sorted(paths)
    again = open_store(paths, PRE, tmp_path / "cache", progress=False)
    assert len(reads) == 20
    assert again.file == first.file


def test_moved_files_find_their_store_and_other_settings_do_not(tmp_path, reads):
    paths = png_files(tmp_path / "in", 8)
    first = open_store(paths, PRE, tmp_path / "cache", progress=False)
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = [path.replace("/in/", "/moved/") for path in paths]
    assert open_store(moved, PRE, tmp_path / "cache", progress=False).file == first.file
    assert len(reads) == 8
    for pre in (Preprocess(size=48), Preprocess(size=32, clahe=None), Preprocess(size=32, clahe=CLAHE(3.0))):
        other = open_store(moved, pre, tmp_path / "cache", progress=False)
        assert other.file != first.file
        np.testing.assert_array_equal(other.images, fresh(moved, pre))
    backwards = open_store(moved[::-1], PRE, tmp_path / "cache", progress=False)
    np.testing.assert_array_equal(backwards.images, first.images[::-1])


def test_another_opencv_builds_another_store(tmp_path, monkeypatch):
    paths = png_files(tmp_path / "in", 3)
    first = open_store(paths, PRE, tmp_path / "cache", progress=False)
    monkeypatch.setattr("cv2.__version__", "99.0")
    assert open_store(paths, PRE, tmp_path / "cache", progress=False).file != first.file


# --- changed sources


def test_a_changed_file_is_noticed(tmp_path, settled):
    paths = png_files(tmp_path / "in", 6)
    before = np.array(open_store(paths, PRE, tmp_path / "cache", progress=False).images)
    (other,) = png_files(tmp_path / "other", 1, seed=9)
    Path(paths[2]).write_bytes(Path(other).read_bytes())
    after = open_store(paths, PRE, tmp_path / "cache", progress=False).images
    np.testing.assert_array_equal(after, fresh(paths))
    assert [i for i in range(6) if (after[i] != before[i]).any()] == [2]


def test_a_change_that_keeps_size_and_time_is_noticed(tmp_path, settled):
    paths = png_files(tmp_path / "in", 3)
    open_store(paths, PRE, tmp_path / "cache", progress=False)
    old = os.stat(paths[1])
    data = bytearray(Path(paths[1]).read_bytes())
    data[40] ^= 0xFF  # damaged: not the image that was kept
    time.sleep(0.02)
    Path(paths[1]).write_bytes(data)
    os.utime(paths[1], ns=(old.st_atime_ns, old.st_mtime_ns))
    stored = open_store(paths, PRE, tmp_path / "cache", progress=False)
    assert [row for row, _ in stored.unreadable] == [1]


def test_files_that_stay_are_not_even_read_again(tmp_path, settled, monkeypatch):
    paths = png_files(tmp_path / "in", 5)
    open_store(paths, PRE, tmp_path / "cache", progress=False)

    def refuse(path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("siamura.pixels.store.read_bytes", refuse)
    open_store(paths, PRE, tmp_path / "cache", progress=False)
    os.utime(paths[3])
    with pytest.raises(AssertionError, match=r"image3\.png was read"):
        open_store(paths, PRE, tmp_path / "cache", progress=False)


def test_a_file_just_written_is_not_trusted_by_its_time(tmp_path, monkeypatch):
    """Two writes within one tick of the file system's clock look the same: young files are read again."""
    paths = png_files(tmp_path / "in", 2)
    open_store(paths, PRE, tmp_path / "cache", progress=False)
    seen = []
    import siamura.pixels.store as store

    read = store.read_bytes
    monkeypatch.setattr(store, "read_bytes", lambda path: (seen.append(path), read(path))[1])
    open_store(paths, PRE, tmp_path / "cache", progress=False)
    assert sorted(seen) == paths


def test_a_file_that_changes_under_the_build_stops_it(tmp_path, monkeypatch):
    """Where there is no room to keep what was read for the digests, files are read twice, and compared."""
    paths = png_files(tmp_path / "in", 4)
    import siamura.pixels.store as store

    read, seen = store.read_bytes, []

    def changing(path):
        seen.append(path)
        return read(paths[0] if seen.count(paths[3]) > 1 and path == paths[3] else path)

    monkeypatch.setattr(store._ReadOnce, "LIMIT", 0)
    monkeypatch.setattr(store, "read_bytes", changing)
    with pytest.raises(StoreError, match=r"image3\.png changed while"):
        open_store(paths, PRE, tmp_path / "cache", progress=False)


def test_a_small_set_of_files_is_read_once(tmp_path, monkeypatch):
    paths = png_files(tmp_path / "in", 4)
    import siamura.pixels.store as store

    read, seen = store.read_bytes, []
    monkeypatch.setattr(store, "read_bytes", lambda path: (seen.append(path), read(path))[1])
    stored = open_store(paths, PRE, tmp_path / "cache", progress=False)
    assert sorted(seen) == paths
    np.testing.assert_array_equal(stored.images, preprocess_all(paths, PRE, progress=False).images)


def test_building_leaves_the_threads_of_others_as_they_were(tmp_path):
    import sys

    import cv2

    before = sys.getswitchinterval(), cv2.getNumThreads()
    open_store(png_files(tmp_path / "in", 4), PRE, tmp_path / "cache", progress=False)
    assert (sys.getswitchinterval(), cv2.getNumThreads()) == before


def test_unreadable_files_are_left_out_listed_and_the_rest_is_in_order(tmp_path):
    paths = png_files(tmp_path / "in", 9)
    Path(paths[0]).write_bytes(b"")
    Path(paths[4]).write_bytes(Path(paths[4]).read_bytes()[:60])
    Path(paths[8]).unlink()
    good = [path for i, path in enumerate(paths) if i not in (0, 4, 8)]
    for stored in (
        preprocess_all(paths, PRE, progress=False),
        open_store(paths, PRE, tmp_path / "cache", progress=False),
        open_store(paths, PRE, tmp_path / "cache", progress=False),
    ):
        assert [row for row, _ in stored.unreadable] == [0, 4, 8]
        assert all(reason for _, reason in stored.unreadable)
        assert stored.rows.tolist() == [1, 2, 3, 5, 6, 7]
        np.testing.assert_array_equal(stored.images, fresh(good))


def test_only_unreadable_files(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    stored = open_store(
        [str(tmp_path / "bad.png"), str(tmp_path / "none.png")], PRE, tmp_path / "cache", progress=False
    )
    assert stored.images.shape == (0, 32, 32)
    assert len(stored.unreadable) == 2


def test_what_becomes_readable_is_read(tmp_path, monkeypatch):
    """A missing decoder is installed later: the same bytes can be read then."""
    import siamura.pixels.store as store
    from siamura.pixels import UnreadableImage

    paths = png_files(tmp_path / "in", 5)
    decode = store.decode_with_remarks

    def without_decoder(data, path):
        if str(path) == paths[2]:
            raise UnreadableImage(path, 'its codec is missing: pip install "siamura[dicom]"')
        return decode(data, path)

    monkeypatch.setattr(store, "decode_with_remarks", without_decoder)
    assert [row for row, _ in open_store(paths, PRE, tmp_path / "cache", progress=False).unreadable] == [2]
    monkeypatch.setattr(store, "decode_with_remarks", decode)
    stored = open_store(paths, PRE, tmp_path / "cache", progress=False)
    assert stored.unreadable == ()
    np.testing.assert_array_equal(stored.images, fresh(paths))


# --- damage


def damage(file, how):
    if how == "flip":
        with open(file, "r+b") as opened:
            opened.seek(2000)
            byte = opened.read(1)[0]
            opened.seek(2000)
            opened.write(bytes([byte ^ 1]))
    elif how == "truncate":
        os.truncate(file, file.stat().st_size - 1)
    elif how == "grow":
        with open(file, "ab") as opened:
            opened.write(b"x")
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["flip", "truncate", "grow", "unlink"])
@pytest.mark.parametrize("name", ["images.u8", "manifest.json"])
def test_a_damaged_store_is_built_again(tmp_path, caplog, name, how):
    paths = png_files(tmp_path / "in", 10)
    paths *= 5  # so that the manifest is longer than the byte that is flipped
    stored = open_store(paths, PRE, tmp_path / "cache", progress=False)
    file = stored.file.parent / name
    if how == "flip" and file.stat().st_size <= 2000:
        file.write_text(file.read_text()[:-1])
    else:
        damage(file, how)
    again = open_store(paths, PRE, tmp_path / "cache", progress=False)
    np.testing.assert_array_equal(again.images, fresh(paths))
    assert "damaged" in caplog.text


def test_the_manifest_tells_a_person_what_the_store_holds(tmp_path):
    stored = open_store(png_files(tmp_path / "in", 3), PRE, tmp_path / "cache", progress=False)
    body = (stored.file.parent / "manifest.json").read_text().partition("\n")[2]
    manifest = json.loads(body)
    assert manifest["shape"] == [3, 32, 32]
    assert Preprocess.from_dict(manifest["preprocess"]) == PRE
    raw = np.fromfile(stored.file, np.uint8).reshape(manifest["shape"])
    np.testing.assert_array_equal(raw, stored.images)


# --- kills and races

BUILD = textwrap.dedent(
    """
    import sys, time, json
    import siamura.pixels.store as store
    from siamura.pixels import Preprocess
    paths, cache, delay = json.load(open(sys.argv[1])), sys.argv[2], float(sys.argv[3])
    decode, decoded = store.decode_with_remarks, []
    def slowly(data, path):
        time.sleep(delay)
        decoded.append(path)
        return decode(data, path)
    store.decode_with_remarks = slowly
    print("ready", flush=True)
    stored = store.open_store(paths, Preprocess(size=32), cache, progress=False)
    print(len(decoded), stored.file, int(stored.images.astype(int).sum()), flush=True)
    """
)


def started(tmp_path, paths, delay):
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, tmp_path / "paths.json", tmp_path / "cache", str(delay)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_in_the_middle_it_resumes_and_equals_a_fresh_build(tmp_path, reads, caplog):
    paths = png_files(tmp_path / "in", 120)
    process = started(tmp_path, paths, 0.02)
    journal = None
    while process.poll() is None and not (journal and journal.stat().st_size >= 8 * 24):
        journal = next((tmp_path / "cache").glob("*.partial/journal.bin"), None) or journal
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    (partial,) = stores(tmp_path / "cache")
    assert partial.name.endswith(".partial")  # nothing that looks finished
    assert 24 <= len(journal.read_bytes()) // 8 < 120

    with caplog.at_level(logging.INFO, "siamura.pixels.store"):
        stored = open_store(paths, PRE, tmp_path / "cache", progress=False)
    assert "resuming" in caplog.text
    assert 0 < len(reads) <= 120 - 24  # what was done is not done again
    np.testing.assert_array_equal(stored.images, fresh(paths))
    elsewhere = open_store(paths, PRE, tmp_path / "elsewhere", progress=False)
    assert stored.file.read_bytes() == elsewhere.file.read_bytes()
    assert (stored.file.parent / "manifest.json").read_text() == (
        elsewhere.file.parent / "manifest.json"
    ).read_text()
    assert [path.name for path in stores(tmp_path / "cache")] == [stored.file.parent.name]


@pytest.mark.parametrize(
    "what", ["torn journal", "wrong pixels", "foreign rows", "no journal", "short pixels"]
)
def test_a_left_over_build_in_any_state_is_never_trusted_blindly(tmp_path, what):
    paths = png_files(tmp_path / "in", 30)
    stored = open_store(paths, PRE, tmp_path / "cache", progress=False)
    manifest = json.loads((stored.file.parent / "manifest.json").read_text().partition("\n")[2])
    partial = stored.file.parent.with_name(stored.file.parent.name + ".partial")
    stored.file.parent.rename(partial)
    (partial / "manifest.json").unlink()
    journal = np.array(list(enumerate(manifest["crcs"])), "<u4").tobytes()
    if what == "torn journal":
        journal = journal[:-3]
    elif what == "foreign rows":
        journal += np.array([(7000, 1), (2**32 - 1, 2)], "<u4").tobytes()
    elif what == "wrong pixels":  # the rows were journalled, and lost with the power
        with open(partial / "images.u8", "r+b") as file:
            file.write(b"\0" * 5000)
    elif what == "short pixels":
        os.truncate(partial / "images.u8", 7 * 1024 + 100)
    if what != "no journal":
        (partial / "journal.bin").write_bytes(journal)
    again = open_store(paths, PRE, tmp_path / "cache", progress=False)
    np.testing.assert_array_equal(again.images, fresh(paths))


@pytest.mark.slow
def test_killed_at_any_moment_it_is_never_wrong(tmp_path):
    """Killed a dozen times at moments spread over the build, its renaming included."""
    paths = png_files(tmp_path / "in", 60)
    Path(paths[5]).write_bytes(b"bad")  # so that rows are moved at the end
    good = [path for i, path in enumerate(paths) if i != 5]
    for round_ in range(12):
        process = started(tmp_path, paths, 0.002)
        time.sleep(0.01 + 0.012 * round_)
        process.kill()
        process.wait()
        process.stdout.close()
        for folder in stores(tmp_path / "cache") if (tmp_path / "cache").exists() else []:
            if not folder.name.endswith(".partial"):
                assert (folder / "manifest.json").exists()
    stored = open_store(paths, PRE, tmp_path / "cache", progress=False)
    np.testing.assert_array_equal(stored.images, fresh(good))
    assert [row for row, _ in stored.unreadable] == [5]


def test_two_processes_at_once_build_one_store_once(tmp_path):
    paths = png_files(tmp_path / "in", 40)
    both = [started(tmp_path, paths, 0.01) for _ in range(2)]
    said = [process.communicate(timeout=900)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(int(words[0]) for words in said) == [0, 40]  # one built, the other waited and opened
    assert said[0][1:] == said[1][1:]
    assert int(said[0][2]) == fresh(paths).astype(int).sum()


def test_when_the_builder_is_killed_the_waiting_process_takes_over(tmp_path):
    paths = png_files(tmp_path / "in", 60)
    first = started(tmp_path, paths, 0.02)
    while not list((tmp_path / "cache").glob("*.partial")):
        time.sleep(0.01)
    second = started(tmp_path, paths, 0.0)
    time.sleep(0.1)
    first.kill()
    first.wait()
    first.stdout.close()
    out, _ = second.communicate(timeout=900)
    assert second.returncode == 0
    assert int(out.split()[2]) == fresh(paths).astype(int).sum()


def test_a_store_in_use_survives_its_deletion(tmp_path):
    import shutil

    paths = png_files(tmp_path / "in", 5)
    stored = open_store(paths, PRE, tmp_path / "cache", progress=False)
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(stored.images, fresh(paths))


# --- a full disk

FULL = textwrap.dedent(
    """
    import sys, json, resource
    import siamura.pixels.store as store
    from siamura.pixels import Preprocess
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        store.open_store(json.load(open(sys.argv[1])), Preprocess(size=32), sys.argv[2], progress=False)
    except store.StoreError as error:
        print(error)
    """
)


def test_no_room_is_said_plainly_and_nothing_half_written_is_trusted(tmp_path):
    """A limit on the size of files stands in for a full disk: the system refuses the same writes."""
    paths = png_files(tmp_path / "in", 30)
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    run = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "paths.json", tmp_path / "cache"],
        capture_output=True, text=True, timeout=900, check=True,
    )  # fmt: skip
    assert "no room for the preprocessed images" in run.stdout
    assert "MB are needed" in run.stdout
    assert str(tmp_path / "cache") in run.stdout
    assert all(folder.name.endswith(".partial") for folder in stores(tmp_path / "cache"))
    stored = open_store(paths, PRE, tmp_path / "cache", progress=False)  # room was made
    np.testing.assert_array_equal(stored.images, fresh(paths))


def test_a_disk_that_fills_up_meanwhile(tmp_path, monkeypatch):
    import errno

    paths = png_files(tmp_path / "in", 30)
    real, calls = os.pwrite, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) >= 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match="no room for the preprocessed images"):
        open_store(paths, PRE, tmp_path / "cache", progress=False)
    monkeypatch.setattr(os, "pwrite", real)
    np.testing.assert_array_equal(
        open_store(paths, PRE, tmp_path / "cache", progress=False).images, fresh(paths)
    )


def test_a_cache_that_cannot_be_written_says_which(tmp_path):
    (tmp_path / "cache").write_text("a file")
    for cache in (tmp_path / "cache", tmp_path / "cache" / "below"):
        with pytest.raises(StoreError, match=r"cache='.*' cannot be made a folder .* is a file"):
            open_store(png_files(tmp_path / "in", 1), PRE, cache, progress=False)


def test_the_bar_counts_every_image_and_can_be_switched_off(tmp_path, capsys, monkeypatch):
    from siamura.pixels import parallel

    bar = parallel.tqdm
    monkeypatch.setattr(parallel, "tqdm", lambda **options: bar(**{**options, "delay": 0}))
    paths = png_files(tmp_path / "in", 40)
    open_store(paths, PRE, tmp_path / "quiet", progress=False)
    assert capsys.readouterr().err == ""
    open_store(paths, PRE, tmp_path / "cache", progress=True)
    shown = capsys.readouterr().err
    assert "preprocessing" in shown
    assert "40/40" in shown


PLATFORM = textwrap.dedent(
    """
    import json, os, sys
    missing = sys.argv[3].split(",")
    for name in missing:
        if name == "fcntl":
            sys.modules["fcntl"] = None
        else:
            delattr(os, name)
    from siamura.pixels import Preprocess
    from siamura.pixels.store import open_store
    paths = json.load(open(sys.argv[1]))
    for _ in range(2):
        stored = open_store(paths, Preprocess(size=32), sys.argv[2], progress=False)
    print(int(stored.images.astype(int).sum()), len(stored.rows), len(stored.unreadable))
    """
)


@pytest.mark.parametrize("missing", ["fcntl", "pread,pwrite", "posix_fallocate,sched_getaffinity", "all"])
def test_a_store_is_built_and_read_where_the_system_lacks(missing, tmp_path):
    """What Windows and macOS lack of Linux, hidden."""
    if missing == "all":
        missing = "fcntl,pread,pwrite,posix_fallocate,sched_getaffinity"
    paths = [*png_files(tmp_path / "in", 30), str(tmp_path / "none.png")]
    (tmp_path / "paths").write_text(json.dumps(paths))
    arguments = [sys.executable, "-c", PLATFORM, str(tmp_path / "paths"), str(tmp_path / "cache"), missing]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.split() == [str(fresh(paths[:-1]).astype(int).sum()), "30", "1"]


def test_without_reserving_a_full_disk_is_a_sentence_too(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr("siamura.pixels.store.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(StoreError, match="no room for the preprocessed images"):
        open_store(png_files(tmp_path / "in", 4), PRE, tmp_path / "cache", progress=False)


def test_headers_that_are_not_believed_are_said_once_for_all_files(tmp_path, caplog):
    hot = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint16)
    hot[3, 3] = 65535
    paths = []
    for number in range(5):
        paths.append(str(tmp_path / f"hot{number}.png"))
        cv2.imwrite(paths[-1], hot + np.uint16(number) * (hot < 60000))
    for build in (
        lambda: preprocess_all(paths, PRE, progress=False),
        lambda: open_store(paths, PRE, tmp_path / "cache", progress=False),
    ):
        assert len(build().rows) == 5
        assert caplog.text.count("contradict their own pixels") == 1
        assert "5 of 5 files" in caplog.text
        assert "hot0.png" in caplog.text
        caplog.clear()
