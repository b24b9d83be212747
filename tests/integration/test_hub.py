"""Models from a hub: a real HTTP server that speaks its protocol, and breaks in the ways that networks break."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest

from gateway.backoff import Backoff
from gateway.deployments.reasons import FailureReason
from gateway.models.entry import Model
from gateway.settings import Settings
from schemas.sources import HubRef
from tests.downloads import HEADER, LIMITS, WEIGHTS, Download, publish, start
from tests.endless import LONG_S, endless
from tests.hub_server import TOKEN, Fault, HubServer
from tests.model_files import write_gguf, write_openvino, write_safetensors
from tests.stack import eventually
from workers.sources import hub_client, source_of
from workers.sources.base import SourceFailed, keep_quiet, never, no_progress
from workers.sources.download_store import KEPT_S
from workers.sources.hub import Hub
from workers.sources.hub_search import near_repositories
from workers.sources.model_footprint import read_footprint
from workers.sources.retry import Interrupted, Limits


def test_the_server_speaks_what_the_hubs_own_client_asks(model_hub: HubServer, tmp_path: Path) -> None:
    from huggingface_hub import HfApi, hf_hub_download

    repository, ref = publish(model_hub, tmp_path)
    info = HfApi(endpoint=model_hub.url).model_info(ref.repository, revision=ref.revision, files_metadata=True)
    assert {file.rfilename: file.size for file in info.siblings or []} == {
        name: len(content) for name, content in repository.files.items()
    }
    for name, content in repository.files.items():
        path = hf_hub_download(
            ref.repository, name, revision=ref.revision, endpoint=model_hub.url, cache_dir=tmp_path / "cache"
        )
        assert Path(path).read_bytes() == content


def test_a_repository_is_inspected_without_its_weights_and_then_fetched(model_hub: HubServer, tmp_path: Path) -> None:
    repository, ref = publish(model_hub, tmp_path)
    repository.files["pytorch_model.bin"] = repository.files["modeling_x.py"] = b"code"
    download = Download(tmp_path / "models", ref)
    footprint = download.source.inspect()
    assert footprint == read_footprint(tmp_path / "published")
    asked = [seen.range for seen in model_hub.requests(WEIGHTS)]
    assert asked
    assert all(asked), "only a part of the weights"
    assert not download.source.present()
    assert download.left == []
    path = download.fetch()
    assert sorted(file.name for file in path.iterdir()) == ["config.json", WEIGHTS]
    download.require_whole(repository, path)
    total = sum(len(repository.files[name]) for name in ("config.json", WEIGHTS))
    assert (download.progress[0], download.progress[-1]) == ((0, total), (total, total))
    done = [here for here, _ in download.progress]
    assert done == sorted(done)
    # A second time needs no network, not even for another object.
    seen = len(model_hub.seen)
    again = Download(tmp_path / "models", ref)
    assert again.fetch() == path
    assert again.source.inspect() == footprint
    assert len(model_hub.seen) == seen


def test_the_catalog_leads_to_the_files(model_hub: HubServer, tmp_path: Path) -> None:
    repository = model_hub.add("org/name", write_gguf(tmp_path / "published" / "q8" / "a.gguf").parent.parent)
    model = Model(
        "m", "M", "", "1", ("chat",), engine="openvino", source=f"hub:org/name@{repository.revision}/q8/a.gguf",
        models_dir=tmp_path / "models",
    )  # fmt: skip
    source = source_of(model, Settings(data_dir=tmp_path))
    assert source.inspect().format == "gguf"
    assert model.path() is None
    path = source.fetch(on_progress=no_progress, is_cancelled=never, log=keep_quiet)
    assert model.path() == path
    assert path.read_bytes() == repository.files["q8/a.gguf"]


def test_a_server_that_sends_too_much_is_stopped(model_hub: HubServer, tmp_path: Path) -> None:
    """Given a list with another size than the file has, when fetched, then nothing is taken for whole."""
    repository, ref = publish(model_hub, tmp_path)
    repository.claimed["config.json"] = 10
    with pytest.raises(SourceFailed) as caught:
        Download(tmp_path / "models", ref).fetch()
    assert caught.value.reason is FailureReason.SOURCE_UNREACHABLE
    assert not Download(tmp_path / "models", ref).source.present()


def test_a_folder_that_can_not_be_written_is_named(model_hub: HubServer, tmp_path: Path) -> None:
    _, ref = publish(model_hub, tmp_path)
    (tmp_path / "models").write_text("a file where the folder should be")
    error = Download(tmp_path / "models", ref).failure()
    assert error.reason is FailureReason.INTERNAL
    assert f"could not be written to {tmp_path / 'models'}" in error.message


def test_a_description_that_came_damaged_is_asked_for_again(model_hub: HubServer, tmp_path: Path) -> None:
    """Given a digit that was changed on the way, when inspected, then the size is still right."""
    _, ref = publish(model_hub, tmp_path)
    model_hub.faults["config.json"].append(Fault(damage=True))
    lines: list[str] = []
    footprint = Hub(ref, tmp_path / "models", limits=LIMITS).inspect(log=lines.append)
    assert footprint == read_footprint(tmp_path / "published")
    assert "config.json came damaged" in lines[0]


def test_a_folder_of_a_repository_in_the_engines_format(model_hub: HubServer, tmp_path: Path) -> None:
    write_openvino(write_safetensors(tmp_path / "published" / "both"))
    repository = model_hub.add("org/name", tmp_path / "published")
    ref = HubRef("org", "name", repository.revision, "both")
    wanted = {"openvino": ["openvino_model.bin", "openvino_model.xml"], "safetensors": [WEIGHTS]}
    # One after the other: what was fetched for one engine is not enough for the other.
    for format, weights in wanted.items():
        source = Hub(ref, tmp_path / "models", (format,))
        assert source.inspect().format == format
        path = source.fetch(on_progress=no_progress, is_cancelled=never, log=keep_quiet)
        assert sorted(file.name for file in path.iterdir()) == ["config.json", *sorted(weights)]


def test_cuts_are_mended_from_where_the_line_broke(model_hub: HubServer, tmp_path: Path) -> None:
    """Given a line that breaks three times, when fetched, then each try begins where the last one ended."""
    repository, ref = publish(model_hub, tmp_path)
    download = Download(tmp_path / "models", ref)
    download.source.inspect()
    model_hub.seen.clear()
    model_hub.faults[WEIGHTS].extend([Fault(cut_after=300_000)] * 3)
    download.require_whole(repository, download.fetch())
    assert [seen.range for seen in model_hub.requests(f"/{ref.revision}/{WEIGHTS}")] == [
        "", "bytes=300000-", "bytes=600000-", "bytes=900000-"
    ]  # fmt: skip
    assert sum("Trying again" in line for line in download.lines) == 3


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ([Fault(stall_after=200_000)], "timed out"),
        ([Fault(trickle_s=0.05)], "bytes a second"),
        ([Fault(status=503, retry_after="0")], "status 503"),
        ([Fault(status=429)], "status 429"),
        ([Fault(cut_after=200_000), Fault(whole=True)], "Trying again"),
    ],
    ids=["silence", "trickle", "503", "429", "no ranges"],
)
def test_what_may_pass_is_tried_again(model_hub: HubServer, tmp_path: Path, faults: list[Fault], says: str) -> None:
    repository, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].extend([HEADER, *faults])
    download = Download(tmp_path / "models", ref)
    download.require_whole(repository, download.fetch())
    assert any(says in line for line in download.lines), download.lines


@pytest.mark.parametrize(("asks", "pause_s"), [("7", "0.2"), (formatdate(2e9, usegmt=True), "0.2"), ("soon", "0.0")])
def test_a_hub_may_ask_for_a_longer_pause(model_hub: HubServer, tmp_path: Path, asks: str, pause_s: str) -> None:
    """In seconds or until a date; it gets no more than the longest pause."""
    repository, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].extend([HEADER, Fault(status=503, retry_after=asks)])
    download = Download(tmp_path / "models", ref, limits=replace(LIMITS, backoff=Backoff(first_s=0.0, last_s=0.2)))
    download.require_whole(repository, download.fetch())
    assert any(f"Trying again in {pause_s} s" in line for line in download.lines), download.lines


def test_after_the_last_try_the_next_fetch_goes_on(model_hub: HubServer, tmp_path: Path) -> None:
    """Given a line that stays dead, when fetched, then it fails; and when it lives again, the rest is fetched."""
    repository, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].extend([HEADER, Fault(cut_after=200_000), *[Fault(cut_after=0)] * 3])
    download = Download(tmp_path / "models", ref)
    error = download.failure()
    assert error.reason is FailureReason.SOURCE_UNREACHABLE
    assert "the last of 3 tries, from byte 200000" in error.message
    assert not download.source.present()
    assert any(name.endswith(f"{WEIGHTS}.part") for name in download.left)
    model_hub.seen.clear()
    again = Download(tmp_path / "models", ref)
    again.require_whole(repository, again.fetch())
    assert model_hub.requests(f"/{ref.revision}/{WEIGHTS}")[-1].range == "bytes=200000-"


def test_what_a_failed_fetch_left_can_be_discarded(model_hub: HubServer, tmp_path: Path) -> None:
    _, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].extend([HEADER, *[Fault(cut_after=1000)] * 3])
    download = Download(tmp_path / "models", ref)
    download.failure()
    kept = download.left
    assert kept
    # Undoing that very failure leaves what the next try goes on with.
    download.source.discard()
    assert download.left == kept
    again = Download(tmp_path / "models", ref)
    again.source.discard()
    assert list((tmp_path / "models").iterdir()) == []
    again.source.discard()


def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    download = Download(tmp_path / "models", HubRef("org", "name", "0" * 40))
    assert download.failure().reason is FailureReason.SOURCE_UNREACHABLE
    assert download.left == []


def test_a_wrong_checksum_is_never_taken_for_whole(model_hub: HubServer, tmp_path: Path) -> None:
    """Given damage on the way, when fetched, then it fails and leaves nothing; and the next fetch is right."""
    repository, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].extend([HEADER, Fault(damage=True)])
    download = Download(tmp_path / "models", ref)
    error = download.failure()
    assert error.reason is FailureReason.CHECKSUM
    assert f"{WEIGHTS} came damaged" in error.message
    assert download.left == []
    download.require_whole(repository, download.fetch())


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_part_that_was_damaged_on_the_disk_is_fetched_anew(model_hub: HubServer, tmp_path: Path, name: str) -> None:
    """Given a part with other bytes, also too many, when fetched, then the file comes from its beginning."""
    repository, ref = publish(model_hub, tmp_path)
    part = Download(tmp_path / "models", ref).part(name)
    for rubbish in (b"rubbish", bytes(len(repository.files[name]) + 1)):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(rubbish)
        download = Download(tmp_path / "models", ref)
        path = download.fetch()
        download.require_whole(repository, path)
        assert any("beginning anew" in line for line in download.lines)
        shutil.rmtree(path.parent)


def test_a_model_that_lost_a_file_is_not_present_and_mended(model_hub: HubServer, tmp_path: Path) -> None:
    """Given a file that was cut after it was fetched, when fetched again, then only its rest is fetched."""
    repository, ref = publish(model_hub, tmp_path)
    download = Download(tmp_path / "models", ref)
    path = download.fetch()
    (path / WEIGHTS).write_bytes(repository.files[WEIGHTS][:400_000])
    again = Download(tmp_path / "models", ref)
    assert not again.source.present()
    model_hub.seen.clear()
    again.require_whole(repository, again.fetch())
    assert model_hub.requests(f"/{ref.revision}/{WEIGHTS}")[-1].range == "bytes=400000-"


@pytest.mark.parametrize("after", [0, 1, 5, 15])
def test_a_cancel_leaves_nothing(model_hub: HubServer, tmp_path: Path, after: int) -> None:
    """Given a slow line, when cancelled at any moment, then nothing is left; and the next fetch is right."""
    repository, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].extend([HEADER, Fault(stall_after=300_000)])
    download = Download(tmp_path / "models", ref, limits=Limits())
    asked = 0

    def is_cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    assert download.failure(is_cancelled).reason is FailureReason.CANCELLED
    assert download.left == []
    assert not (tmp_path / "models" / ".partial").exists()
    model_hub.faults.clear()
    download.require_whole(repository, download.fetch())


def test_a_cancel_is_heard_while_the_line_is_silent(model_hub: HubServer, tmp_path: Path) -> None:
    _, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].extend([HEADER, Fault(stall_after=300_000)])
    download = Download(tmp_path / "models", ref, limits=Limits(silence_timeout_s=600))
    # Without the cancel this would take ten minutes, and the test's own time-out would end it.
    assert download.failure(model_hub.stalled.is_set).reason is FailureReason.CANCELLED
    assert download.left == []


def test_two_that_want_the_same_fetch_it_once(model_hub: HubServer, tmp_path: Path) -> None:
    """Given a fetch that stands still, when another one comes, then it waits, and takes what the first has fetched."""
    repository, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].extend([HEADER, Fault(stall_after=300_000)])
    first, second = (Download(tmp_path / "models", ref, limits=Limits()) for _ in range(2))
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda d=d: paths.append(d.fetch())) for d in (first, second)]
    threads[0].start()
    assert model_hub.stalled.wait(60)
    threads[1].start()
    second.source.discard()
    model_hub.go_on.set()
    for thread in threads:
        thread.join(60)
    assert paths == [paths[0]] * 2
    second.require_whole(repository, paths[0])
    assert len([seen for seen in model_hub.requests(f"/{ref.revision}/{WEIGHTS}") if not seen.range]) == 1


def test_after_a_kill_the_next_fetch_goes_on(model_hub: HubServer, tmp_path: Path) -> None:
    """Given a fetch that is killed in the middle, when fetched again, then what had come is not fetched twice."""
    repository, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].extend([HEADER, Fault(stall_after=1_000_000)])
    process = start(tmp_path / "models", ref)
    try:
        assert model_hub.stalled.wait(60)
        download = Download(tmp_path / "models", ref)
        part = download.part(WEIGHTS)
        eventually(lambda: part.exists() and part.stat().st_size > 500_000, "some of it is on the disk")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    size = part.stat().st_size
    assert not download.source.present()
    model_hub.go_on.set()
    model_hub.seen.clear()
    download.require_whole(repository, download.fetch())
    assert model_hub.requests(f"/{ref.revision}/{WEIGHTS}")[-1].range == f"bytes={size}-"


def test_a_disk_without_room_is_noticed_before(model_hub: HubServer, tmp_path: Path) -> None:
    repository, ref = publish(model_hub, tmp_path)
    repository.claimed[WEIGHTS] = 1 << 50
    download = Download(tmp_path / "models", ref)
    error = download.failure()
    assert error.reason is FailureReason.NO_SPACE
    assert f"{(1 << 50) / 1e9:.2f} GB are to be fetched" in error.message
    asked = [seen.range for seen in model_hub.requests(WEIGHTS)]
    assert asked
    assert all(asked), "only a part of the weights"
    assert download.left == []


def test_a_limit_that_is_met_while_writing_is_no_space(model_hub: HubServer, tmp_path: Path) -> None:
    _, ref = publish(model_hub, tmp_path)
    process = start(tmp_path / "models", ref, most_bytes=500_000)
    said, _ = process.communicate(timeout=60)
    assert said.splitlines()[-1].startswith("NO_SPACE The download could not be written: File too large")
    assert Download(tmp_path / "models", ref).left == []


def test_a_disk_that_fills_up_while_writing_is_no_space(model_hub: HubServer, tmp_path: Path) -> None:
    """Given a disk that others fill meanwhile, when fetched, then it fails, leaves nothing, and later succeeds."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this test needs the right to mount a small disk; the one with RLIMIT_FSIZE runs everywhere")
    try:
        repository, ref = publish(model_hub, tmp_path)
        model_hub.faults[WEIGHTS].extend([HEADER, Fault(stall_after=100_000)])
        download = Download(disk / "models", ref, limits=Limits())
        errors: list[SourceFailed] = []
        thread = threading.Thread(target=lambda: errors.append(download.failure()))
        thread.start()
        assert model_hub.stalled.wait(60)
        (disk / "ballast").write_bytes(bytes(3 << 20))
        model_hub.go_on.set()
        thread.join(60)
        assert errors[0].reason is FailureReason.NO_SPACE
        assert "No space left on device" in errors[0].message
        assert download.left == []
        assert download.failure().reason is FailureReason.NO_SPACE
        (disk / "ballast").unlink()
        download.require_whole(repository, download.fetch())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_gated_repository_wants_a_token_which_the_storage_never_sees(
    model_hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, ref = publish(model_hub, tmp_path, gated=True)
    error = Download(tmp_path / "models", ref).failure()
    assert error.reason is FailureReason.SOURCE_UNREACHABLE
    assert f"Accept them on {model_hub.url}/org/name, and run `hf auth login`" in error.message
    monkeypatch.setenv("HF_TOKEN", "of somebody else")
    assert "refuses this node's token for org/name (401 Invalid" in Download(tmp_path / "models", ref).failure().message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    download = Download(tmp_path / "models", ref)
    model_hub.seen.clear()
    download.require_whole(repository, download.fetch())
    assert {seen.path.startswith(("/api/", "/org/")): seen.authorized for seen in model_hub.seen} == {
        True: True,
        False: False,
    }


def test_what_is_not_there_is_named(model_hub: HubServer, tmp_path: Path) -> None:
    repository, ref = publish(model_hub, tmp_path)
    cases = [
        (HubRef("org", "other", ref.revision), "no repository org/other, or it is private"),
        (HubRef("org", "name", "0" * 40), f"org/name has no branch, tag or commit {'0' * 40}"),
        (HubRef("org", "name", ref.revision, "q4.gguf"), "no file or folder q4.gguf"),
    ]
    for wrong, says in cases:
        error = Download(tmp_path / "models", wrong).failure()
        assert (error.reason, says in error.message) == (FailureReason.MISSING_FILE, True)
    del repository.files["config.json"]
    assert Download(tmp_path / "models", ref).failure().message == "There is no config.json."


def test_code_and_pickles_are_refused(model_hub: HubServer, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "code", auto_map={"AutoModel": "modeling_x.X"})
    (tmp_path / "pickle").mkdir()
    (tmp_path / "pickle" / "pytorch_model.bin").write_bytes(b"code")
    for folder, reason in (("code", FailureReason.UNSUPPORTED_ARCHITECTURE), ("pickle", FailureReason.UNSAFE_FILE)):
        repository = model_hub.add(f"org/{folder}", tmp_path / folder)
        download = Download(tmp_path / "models", HubRef("org", folder, repository.revision))
        assert download.failure().reason is reason
        assert download.left == []
    assert not model_hub.requests("pytorch_model.bin")


def test_a_name_that_leads_out_of_the_folder_is_refused(model_hub: HubServer, tmp_path: Path) -> None:
    repository, ref = publish(model_hub, tmp_path)
    repository.files["../../evil.json"] = b"{}"
    error = Download(tmp_path / "models", ref).failure()
    assert error.reason is FailureReason.UNSAFE_FILE
    assert "not safe" in error.message


def test_what_was_left_long_ago_is_removed_by_the_next_fetch_of_anything(model_hub: HubServer, tmp_path: Path) -> None:
    """Given parts of two other models, one from long ago, when a third is fetched, then only the old ones go."""
    _, ref = publish(model_hub, tmp_path)
    partial = tmp_path / "models" / ".partial"
    for name, age_s in (("old", KEPT_S + 60), ("new", KEPT_S - 60)):
        part = partial / f"org--{name}@{'0' * 40}" / "files" / f"{WEIGHTS}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"part")
        for path in (part, part.parent, part.parent.parent):
            os.utime(path, (time.time() - age_s,) * 2)
    Download(tmp_path / "models", ref).fetch()
    assert [path.name for path in partial.iterdir()] == [f"org--new@{'0' * 40}"]


def test_an_inspection_can_be_cancelled(model_hub: HubServer, tmp_path: Path) -> None:
    _, ref = publish(model_hub, tmp_path)
    model_hub.faults[WEIGHTS].append(Fault(stall_after=10))
    source = Hub(ref, tmp_path / "models", limits=Limits(silence_timeout_s=600))
    with pytest.raises(SourceFailed) as caught:
        source.inspect(is_cancelled=model_hub.stalled.is_set)
    assert caught.value.reason is FailureReason.CANCELLED


@pytest.mark.parametrize(
    "listing",
    [
        b"<html>Sign in to go on</html>",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"sha": 5, "siblings": 7}',
        b'{"id": "org/name", "siblings": [5]}',
        *(
            b'{"id": "org/name", "sha": "REVISION", "siblings": [{"blobId": "a", %b}]}' % file
            for file in (
                b'"rfilename": 5, "size": 1',
                b'"rfilename": "a", "size": -1',
                b'"rfilename": "a", "size": "x"',
            )
        ),
    ],
)
def test_what_answers_in_place_of_the_hub_is_no_list_of_files(
    model_hub: HubServer, tmp_path: Path, listing: bytes
) -> None:
    repository, ref = publish(model_hub, tmp_path)
    model_hub.listing = listing.replace(b"REVISION", repository.revision.encode())
    with pytest.raises(SourceFailed) as caught:
        Download(tmp_path / "models", ref).source.inspect()
    assert caught.value.reason is FailureReason.SOURCE_UNREACHABLE
    model_hub.listing = None
    assert Download(tmp_path / "models", ref).source.inspect().format == "safetensors"


def test_parts_that_only_their_index_names_are_fetched(model_hub: HubServer, tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path / "parts", shards=2)
    index = folder / "model.safetensors.index.json"
    for i in (1, 2):
        old, new = f"model-{i:05}-of-00002.safetensors", f"weights-{i}.safetensors"
        (folder / old).rename(folder / new)
        index.write_text(index.read_text().replace(old, new))
    (folder / "other.safetensors").write_bytes(b"not a part")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("x")
    repository = model_hub.add("org/parts", folder)
    download = Download(tmp_path / "models", HubRef("org", "parts", repository.revision))
    assert download.source.inspect() == read_footprint(folder)
    path = download.fetch()
    found = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
    parts = ["weights-1.safetensors", "weights-2.safetensors"]
    assert found == ["additional_chat_templates/tool_use.jinja", "config.json", index.name, *parts]


@pytest.mark.parametrize("pause_s", [0, 0.05], ids=["at once", "drop by drop"])
@pytest.mark.parametrize(
    ("status", "says"),
    [(200, "its answer has more than 32 MiB"), (302, "redirects"), (404, "status 404"), (503, "status 503")],
)
def test_an_answer_without_end_in_place_of_the_hub_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, says: str, pause_s: float
) -> None:
    monkeypatch.setattr(hub_client, "LONGEST_S", 1.0)
    monkeypatch.setattr(hub_client, "ERROR_S", 0.2)
    source = Hub(HubRef("org", "name", "a" * 40), tmp_path / "models", limits=replace(LIMITS, max_retries=0))
    asked: list[Callable[[], object]] = [source.inspect]
    if status != 200:
        asked.append(lambda: list(hub_client.HubClient(HubRef("org", "name", "a" * 40), LIMITS).stream("x")))
    for ask in asked:
        with endless(status, pause_s) as (url, left):
            monkeypatch.setenv("HF_ENDPOINT", url)
            with pytest.raises((SourceFailed, Interrupted), match=says):
                ask()
            assert left.wait(LONG_S / 2), "the whole answer was read"


def test_what_the_hub_sends_packed_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its length says nothing of what would come out."""
    with endless(200, 0, coding="gzip") as (url, left):
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(SourceFailed, match=r"packed \(gzip\)"):
            hub_client.HubClient(HubRef("org", "name", "main"), LIMITS).listing()
        assert left.wait(LONG_S / 2)


def test_names_are_not_searched_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with endless(200, 0) as (url, left):
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert near_repositories("org/name") == []
        assert left.wait(LONG_S / 2)
