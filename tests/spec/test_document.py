"""What is wrong in a YAML file: file, line, key path, value, reason and the nearest valid name."""

import pickle
import textwrap

import pytest

from thunderserve.spec import catalogue, document
from thunderserve.spec.errors import SpecError, nearest
from thunderserve.spec.gpu import GpuFile
from thunderserve.spec.load import load_gpu, load_model

GPU = """\
name: Mine
family: ada-ad104
fabric: pcie4
fabric_bandwidth: 32 GB/s
fabric_latency: 10 us
datasheet:
  memory: 24 GiB
  memory_bandwidth: 300 GB/s
  flops: 121 TFLOP/s
  source: measured
prices:
  market: {price: 1 USD/h, date: "2026-01", source: me}
"""

WRONG = {
    "unknown key": (
        ("fabric_latency: 10 us", "fabric_latancy: 10 us"),
        "{file}:5: fabric_latancy: unknown key; did you mean 'fabric_latency'?",
    ),
    "unknown key below": (
        ("  flops:", "  flop:"),
        "{file}:9: datasheet.flop: unknown key; did you mean 'flops'?",
    ),
    "unknown key in a mapping of nouns": (
        ("date:", "dated:"),
        "{file}:12: prices.market.dated: unknown key; did you mean 'date'?",
    ),
    "wrong unit, and of two keys that begin alike the right one": (
        ("300 GB/s", "300 GB"),
        "{file}:8: datasheet.memory_bandwidth: has the unit 'GB', but a bandwidth is wanted; "
        "write for example '696 GB/s' (got '300 GB')",
    ),
    "no unit": (
        ("24 GiB", "24"),
        "{file}:6: datasheet: memory has no unit; write for example '48 GiB', or memory_bytes with a plain SI number",
    ),
    "not a quantity": (
        ("1 USD/h", "cheap"),
        "{file}:12: prices.market.price: is not a price; write a number and a unit, as in '0.403 USD/h' (got 'cheap')",
    ),
    "missing key": (("family: ada-ad104\n", ""), "{file}:1: family: is missing; add the key 'family'"),
    "impossible value": (
        ("24 GiB", "-24 GiB"),
        "{file}:7: datasheet.memory: input should be greater than or equal to 0 (got '-24 GiB')",
    ),
    "half a data sheet": (
        ("  flops: 121 TFLOP/s\n", ""),
        "{file}:1: datasheet must give memory, memory_bandwidth and flops; only 'paper' may leave some out",
    ),
    "one of a few": (
        ("fabric: pcie4", "fabric: pcie6"),
        "{file}:3: fabric: input should be 'pcie3', 'pcie4', 'pcie5' or 'nvlink' (got 'pcie6')",
    ),
    "a key twice": (("fabric: pcie4", "name: Again"), "{file}:3: is not YAML: found duplicate key"),
    "a tab": (("  memory:", "\tmemory:"), "{file}:7: is not YAML: found character"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_said_in_one_line(case, tmp_path):
    change, message = WRONG[case]
    path = tmp_path / "mine.yaml"
    assert change[0] in GPU
    path.write_text(GPU.replace(*change))
    with pytest.raises(SpecError) as caught:
        load_gpu(str(path))
    said = str(caught.value)
    expected = message.format(file=path)
    assert said.startswith(expected) if "is not YAML" in expected else said == expected


def test_the_right_file_loads(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GPU)
    assert load_gpu(str(path)).name == "Mine"
    # A file that changes is read again.
    path.write_text(GPU.replace("121 TFLOP/s", "1 TFLOP/s") + "\n\n")
    assert document.load(GpuFile, path).datasheet.flops == 1e12


def test_a_market_of_one_s_own_is_the_price_where_there_is_no_other(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GPU.replace("market:", "spot:"))
    assert load_gpu(str(path)).price_per_hour == 1.0


def test_a_list_where_a_mapping_belongs(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("- 1\n")
    with pytest.raises(SpecError, match=r"mine\.yaml:1: input should be a valid dictionary"):
        load_model(str(path))


def test_a_missing_file_names_its_neighbour(tmp_path):
    (tmp_path / "cloud.yaml").write_text("x: 1\n")
    with pytest.raises(SpecError) as caught:
        document.read(tmp_path / "clod.yaml")
    assert str(caught.value) == f"{tmp_path / 'clod.yaml'}: no such file; did you mean 'cloud.yaml'?"


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="cannot be read"):
        document.read(tmp_path / "x.yaml")


def test_lines_and_dotted_paths(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        textwrap.dedent("""\
        a: 1
        b:
          - c: 2
          - c: 3
            d: [4,
                5]
        """)
    )
    content = document.read(path)
    lines = {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1, "c"): 4, ("b", 1, "d", 1): 6, ("b", 1, "none"): 4, ("z",): 1}
    for place, line in lines.items():
        assert document.line_of(content, place) == line, place
    assert document.dotted(("b", 1, "d", 1)) == "b[1].d[1]"
    assert document.line_of({"a": 1}, ("a",)) is None


def test_an_error_survives_a_process_boundary():
    error = SpecError("is wrong", file="x.yaml", line=3, key="a.b", value="v", remedy="mend it")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "x.yaml:3: a.b: is wrong (got 'v'); mend it"
    assert (again.line, again.value) == (3, "v")


def test_nearest():
    assert nearest("A4O", ["a40", "l4"]) == "did you mean 'a40'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == ""


def test_one_s_own_configurations_come_first(tmp_path, monkeypatch):
    (tmp_path / "gpus").mkdir()
    (tmp_path / "gpus" / "a40.yaml").write_text(GPU)
    monkeypatch.setenv("THUNDERSERVE_CONFIGS", str(tmp_path))
    assert load_gpu("A40").name == "Mine"
    assert "h100" in catalogue.names("gpus")
