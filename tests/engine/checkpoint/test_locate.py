"""What a user calls a model becomes a folder, a hub name, or an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from thunderserve.engine.checkpoint.fetch import PROVENANCE, cache_folder
from thunderserve.engine.checkpoint.locate import locate
from thunderserve.engine.checkpoint.packaged import PACKAGED
from thunderserve.spec.errors import SpecError


def test_a_folder_with_a_model_is_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert locate(str(tmp_path)) == str(tmp_path)


def test_a_folder_in_the_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert locate("~/mine") == str(tmp_path / "mine")


def test_a_hub_name_is_left_as_it_is() -> None:
    assert locate("meta-llama/Llama-2-7b-hf") == "meta-llama/Llama-2-7b-hf"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"holds no model: config.json is missing; give a folder that transformers"):
        locate(str(tmp_path))


@pytest.mark.parametrize("name", ["smolm2-135m", "SmolLM2-135M", "./smollm2", "a/b/c"])
def test_what_is_nothing_is_refused_with_the_nearest_and_the_other_ways(name: str) -> None:
    with pytest.raises(
        SpecError, match=r"no such model \(got .*smollm2-135m.*or give a folder, a .gguf file, or owner/model"
    ):
        locate(name)


def test_a_gguf_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"gone.gguf: no such file"):
        locate(str(tmp_path / "gone.gguf"))


def test_a_packaged_model_that_was_fetched_before_is_found_without_a_network(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in PACKAGED:
        (cache / name).mkdir(parents=True)
        (cache / name / PROVENANCE).write_text("{}")
        assert locate(name) == str(cache / name)


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERSERVE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "models"
    monkeypatch.delenv("THUNDERSERVE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "thunderserve" / "models"
