"""The GPU catalogue against the table it was taken from, figure by figure."""

import pytest

from thunderserve.spec.catalogue import names
from thunderserve.spec.errors import SpecError
from thunderserve.spec.load import load_gpu

GIB = 2**30
LOCAL = "cpu-core"
"""Not a card: a core of the machine at hand, of whose rates no data sheet tells."""
DATASHEET = {
    # name: GiB, GB/s, dense tensor TFLOP/s
    "A100-40G": (40, 1555, 311.9),
    "A100-80G": (80, 2039, 311.9),
    "H100": (80, 3350, 989),
    "H200": (141, 4800, 989),
    "L40S": (48, 864, 362),
    "L4": (24, 300, 121),
    "A10G": (24, 600, 70),
    "A40": (48, 696, 149.7),
    "A6000": (48, 768, 154.8),
    "A5000": (24, 768, 111.1),
    "3090Ti": (24, 1008, 80),
    "4090": (24, 1008, 165.2),
    "V100": (16, 900, 125),
    "T4": (16, 320, 65),
}
TABLE_1 = {
    # ThunderServe, Table 1: GB/s, TFLOP/s, USD/h
    "A100-80G": (2000, 312, 1.753),
    "A6000": (768, 38.7, 0.483),
    "A5000": (626.8, 27.8, 0.223),
    "A40": (696, 149.7, 0.403),
    "3090Ti": (1008, 40, 0.307),
}


def test_the_catalogue_is_the_fourteen_types_named_as_their_files():
    known = {*DATASHEET, LOCAL}
    assert names("gpus") == sorted(name.lower() for name in known)
    assert {load_gpu(name).name for name in names("gpus")} == known


@pytest.mark.parametrize("name", DATASHEET)
def test_data_sheet(name):
    memory, bandwidth, flops = DATASHEET[name]
    gpu = load_gpu(name)
    assert gpu.catalogue == "datasheet"
    assert (gpu.memory_bytes, gpu.memory_bytes_per_s, gpu.flops) == (memory * GIB, bandwidth * 1e9, flops * 1e12)
    assert gpu.price_per_hour > 0


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1_as_printed(name):
    bandwidth, flops, price = TABLE_1[name]
    gpu = load_gpu(name, "paper")
    assert gpu.memory_bytes_per_s == pytest.approx(bandwidth * 1e9, rel=1e-12)
    assert (gpu.flops, gpu.price_per_hour) == (flops * 1e12, price)
    assert gpu.memory_bytes == DATASHEET[name][0] * GIB


@pytest.mark.parametrize("name", sorted(set(DATASHEET) - set(TABLE_1)))
def test_a_type_the_paper_does_not_print_is_the_data_sheets(name):
    assert load_gpu(name, "paper").model_dump(exclude={"catalogue"}) == load_gpu(name).model_dump(exclude={"catalogue"})


def test_only_the_paper_makes_an_a6000_slower_than_an_a40():
    """The same chip: 154.8 against 149.7 TFLOP/s; Table 1 prints the shader rate of one and the tensor rate of the other."""
    assert load_gpu("a6000").flops > load_gpu("a40").flops
    assert load_gpu("a6000", "paper").flops < load_gpu("a40", "paper").flops / 3


def test_the_market_chooses_the_price():
    assert load_gpu("a100-80g").price_per_hour == 1.753
    assert load_gpu("a100-80g", market="on_demand").price_per_hour == 5.12
    assert load_gpu("t4", market="on_demand").price_per_hour == 0.526


def test_an_unknown_market_is_said():
    with pytest.raises(SpecError) as caught:
        load_gpu("a5000", market="on-demand")
    assert caught.value.reason == "has no 'on-demand' price"
    assert caught.value.remedy == "known: paper"


def test_an_unknown_type_names_the_nearest():
    with pytest.raises(SpecError) as caught:
        load_gpu("a600")
    assert str(caught.value) == "unknown gpu (got 'a600'); did you mean 'a6000'?"


def test_bridges_only_where_a_card_can_have_one():
    bridged = {name for name in DATASHEET if load_gpu(name).bridge_bytes_per_s is not None}
    assert bridged == {"A40", "A6000", "A5000", "3090Ti"}
    assert load_gpu("a40").bridge_bytes_per_s == 112.5e9 / 2
