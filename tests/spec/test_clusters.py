"""Clusters: prices against the paper, links as the files say, and the messages of wrong files."""

import textwrap

import pytest

from thunderserve.spec.catalogue import names
from thunderserve.spec.errors import SpecError
from thunderserve.spec.load import load_cluster, load_gpu

GBIT = 1e9 / 8


@pytest.mark.parametrize(
    ("name", "cards", "price"),
    [
        ("inhouse-8xa100", {"A100-80G": 8}, 14.024),
        ("cloud-32", {"A6000": 8, "A5000": 8, "A40": 8, "3090Ti": 8}, 11.328),
        ("cloud-8-a40-3090ti-40gbit", {"A40": 4, "3090Ti": 4}, 4 * (0.403 + 0.307)),
        ("cloud-8-a40-3090ti-5gbit", {"A40": 4, "3090Ti": 4}, 4 * (0.403 + 0.307)),
        ("cloud-20-four-types", {"A6000": 4, "A5000": 4, "A40": 8, "3090Ti": 4}, 7.276),
        ("cloud-20-three-types", {"A40": 8, "A6000": 8, "3090Ti": 4}, 8.316),
        ("homogeneous-8xh100", {"H100": 8}, 8 * 2.03),
        ("homogeneous-16xh100", {"H100": 16}, 16 * 2.03),
        ("homogeneous-8xl40s", {"L40S": 8}, 8 * 0.44),
        ("homogeneous-16xl40s", {"L40S": 16}, 16 * 0.44),
    ],
)
def test_cards_and_price(name, cards, price):
    cluster = load_cluster(name, "paper")
    held = [device.gpu for device in cluster.devices]
    assert {gpu: held.count(gpu) for gpu in dict.fromkeys(held)} == cards
    assert cluster.price_per_hour == pytest.approx(price, rel=1e-12)
    assert cluster.name == name


def test_every_cluster_file_loads_in_both_catalogues():
    for name in names("clusters"):
        sheet, paper = load_cluster(name), load_cluster(name, "paper")
        assert sheet.description
        assert [device.gpu for device in sheet.devices] == [device.gpu for device in paper.devices]


@pytest.mark.parametrize("rate", [40, 5])
def test_the_bandwidth_test_has_its_rate_both_ways(rate):
    cluster = load_cluster(f"cloud-8-a40-3090ti-{rate}gbit")
    for source, target in ((0, 4), (4, 0), (3, 7)):
        assert cluster.link(source, target).bytes_per_s == rate * GBIT


def test_links_inside_a_node():
    cluster = load_cluster("cloud-32")
    a40 = [device.id for device in cluster.devices if device.gpu == "A40"]
    assert cluster.link(a40[0], a40[1]).bytes_per_s == 56.25e9
    assert cluster.link(a40[1], a40[0]).bytes_per_s == 56.25e9
    assert cluster.link(a40[1], a40[2]).bytes_per_s == 32e9
    ti = [device.id for device in cluster.devices if device.gpu == "3090Ti"]
    assert cluster.link(ti[0], ti[1]).bytes_per_s == 32e9
    assert load_cluster("inhouse-8xa100").link(0, 7).bytes_per_s == 300e9


def test_links_between_rented_nodes_spread_and_differ_by_direction():
    cluster = load_cluster("cloud-32")
    rates = {(pair.source, pair.target): pair.link.bytes_per_s / GBIT for pair in cluster.between}
    assert len(rates) == 7 * 6
    assert all(2 <= rate <= 40 for rate in rates.values())
    assert min(rates.values()) < 10
    assert max(rates.values()) > 25
    assert sum(rates[a, b] != rates[b, a] for a, b in rates) > 30
    assert all(5e-4 <= pair.link.latency_s <= 2e-2 for pair in cluster.between)


def test_the_spread_is_the_same_on_any_machine():
    """Golden: from SHA-256 and IEEE arithmetic alone, on a grid of 1 Mbit/s and 10 us."""
    cluster = load_cluster("cloud-32")
    between = {(pair.source, pair.target): pair.link for pair in cluster.between}
    link = between["a6000-0", "a6000-1"]
    assert (link.bytes_per_s * 8 / 1e6, link.latency_s) == (11958.0, 0.00488)
    assert between["a6000-1", "a6000-0"].bytes_per_s * 8 / 1e6 == 12258.0


def spread(nodes):
    return {
        "name": "x",
        "nodes": [{"name": name, "gpu": "l4", "count": 1} for name in nodes],
        "network": {
            "spread": {
                "seed": 1, "median_bandwidth": "10 Gbit/s", "min_bandwidth": "1 Mbit/s", "max_bandwidth": "9 Tbit/s",
                "bandwidth_sigma": 0.5, "median_latency": "2 ms", "min_latency": "0 s", "max_latency": "9 s",
                "latency_sigma": 0.25, "asymmetry": 0.1,
            }
        },
    }  # fmt: skip


def test_a_new_node_leaves_the_other_links_as_they_were():
    few, many = (load_cluster(spread(nodes)) for nodes in ("abc", "dabc"))
    kept = {(pair.source, pair.target): pair.link for pair in many.between}
    assert all(kept[pair.source, pair.target] == pair.link for pair in few.between)


def test_the_spread_has_the_moments_it_is_given():
    numpy = pytest.importorskip("numpy")
    cluster = load_cluster(spread([f"n{i}" for i in range(60)]))
    rates = {(pair.source, pair.target): pair.link.bytes_per_s / GBIT for pair in cluster.between}
    logs = numpy.log(list(rates.values()))
    ratio = numpy.log([rates[a, b] / rates[b, a] for a, b in rates if a < b])
    delays = numpy.log([pair.link.latency_s / 2e-3 for pair in cluster.between])
    # 1,770 independent pairs: three standard errors of a mean and of a standard deviation.
    assert logs.mean() == pytest.approx(numpy.log(10), abs=3 * 0.51 / 1770**0.5)
    assert logs.std() == pytest.approx((0.5**2 + 0.1**2) ** 0.5, rel=3 / (2 * 1770) ** 0.5)
    assert ratio.std() == pytest.approx(0.1 * 2**0.5, rel=3 / (2 * 1770) ** 0.5)
    assert delays.std() == pytest.approx((0.25**2 + 0.1**2) ** 0.5, rel=3 / (2 * 1770) ** 0.5)


def test_explicit_links_and_copies():
    cluster = load_cluster(
        {
            "name": "x",
            "nodes": [{"name": "a", "gpu": "a40", "count": 1, "copies": 2}, {"name": "b", "gpu": "l4", "count": 2}],
            "network": {
                "uniform": {"bandwidth": "10 Gbit/s", "latency": "1 ms"},
                "links": [{"source": "a-0", "target": "b", "bandwidth": "1 Gbit/s", "latency": "9 ms"}],
            },
        }
    )
    assert cluster.nodes == ("a-0", "a-1", "b")
    assert cluster.link(0, 2).bytes_per_s == GBIT
    assert cluster.link(2, 0).bytes_per_s == 10 * GBIT
    assert cluster.link(0, 1).latency_s == 1e-3


WRONG = {
    "unknown key": (
        """
        name: x
        nodes:
          - {name: a, gpu: a40, cuont: 4}
        """,
        "{file}:4: nodes[0].cuont: unknown key; did you mean 'count'?",
    ),
    "unknown type": (
        """
        name: x
        nodes:
          - name: a
            gpu: a41
            count: 4
        """,
        "{file}:5: nodes[0].gpu: unknown gpu (got 'a41'); did you mean 'a40'?",
    ),
    "wrong unit": (
        """
        name: x
        nodes: [{name: a, gpu: a40, count: 4, copies: 2}]
        network:
          uniform:
            bandwidth: 40 GB
            latency: 1 ms
        """,
        "{file}:6: network.uniform.bandwidth: has the unit 'GB', but a bandwidth is wanted; "
        "write for example '696 GB/s' (got '40 GB')",
    ),
    "impossible value": (
        """
        name: x
        nodes:
          - {name: a, gpu: a40, count: 0}
        """,
        "{file}:4: nodes[0].count: input should be greater than 0 (got 0)",
    ),
    "no network": (
        """
        name: x
        nodes: [{name: a, gpu: a40, count: 4}, {name: b, gpu: a40, count: 4}]
        """,
        "{file}:2: has several nodes but no network",
    ),
    "bridges that cannot be": (
        """
        name: x
        nodes: [{name: a, gpu: l4, count: 4, bridges: pairs}]
        """,
        "{file}: node 'a' wants NVLink bridges, which the L4 does not have",
    ),
    "a pair without a link": (
        """
        name: x
        nodes: [{name: a, gpu: a40, count: 4}, {name: b, gpu: a40, count: 4}]
        network: {links: [{source: a, target: b, bandwidth: 1 Gbit/s, latency: 1 ms}]}
        """,
        "{file}: there is no link from node 'b' to node 'a'",
    ),
    "a link to nowhere": (
        """
        name: x
        nodes: [{name: a, gpu: a40, count: 4}, {name: b, gpu: a40, count: 4}]
        network: {links: [{source: a, target: c, bandwidth: 1 Gbit/s, latency: 1 ms}]}
        """,
        "{file}: a link names the node 'c', which is not there",
    ),
    "not YAML": ("name: [x\n", "{file}:2: is not YAML: expected ',' or ']', but got '<stream end>'"),
    "empty": ("# nothing\n", "{file}: is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_said_in_one_line(case, tmp_path):
    text, message = WRONG[case]
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(text))
    with pytest.raises(SpecError) as caught:
        load_cluster(str(path))
    assert str(caught.value) == message.format(file=path)


def test_a_missing_file_and_an_unknown_name():
    with pytest.raises(SpecError) as caught:
        load_cluster("clusters/nowhere.yaml")
    assert str(caught.value) == (
        "clusters/nowhere.yaml: no such file; give a path from the working folder or from the file that names it"
    )
    with pytest.raises(SpecError, match=r"unknown cluster \(got 'cloud-23'\); did you mean 'cloud-32'\?"):
        load_cluster("cloud-23")


def test_a_gpu_file_beside_the_cluster_file(tmp_path):
    source = load_gpu("l4")
    (tmp_path / "mine.yaml").write_text("name: x\nnodes: [{name: a, gpu: ./my-gpu.yaml, count: 2}]\n")
    (tmp_path / "my-gpu.yaml").write_text(
        "name: Mine\nfamily: ada-ad104\nfabric: pcie4\nfabric_bandwidth: 32 GB/s\nfabric_latency: 10 us\n"
        "datasheet: {memory: 24 GiB, memory_bandwidth: 300 GB/s, flops: 121 TFLOP/s, source: measured}\n"
        'prices: {market: {price: 1 USD/h, date: "2026-01", source: me}}\n'
    )
    cluster = load_cluster(str(tmp_path / "mine.yaml"))
    assert cluster.gpu(1).name == "Mine"
    assert cluster.gpu(1).flops == source.flops
    assert cluster.price_per_hour == 2.0
