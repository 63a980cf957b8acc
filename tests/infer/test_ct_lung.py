"""The service ct-lung on phantoms whose truth is known, on a real chest, on CPU and where there is one on a GPU."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from btt_bridge.errors import MalformedError
from btt_bridge.infer.benchmark import tiny_chest
from btt_bridge.infer.ct_lung import CtLung
from btt_bridge.infer.ct_lung.analysis import Analysis, analyze
from btt_bridge.infer.ct_lung.series import Volume, read
from btt_bridge.plugins import Service, service
from btt_bridge.records import Result
from btt_bridge.result import decode, encode
from sample_data.generate import Truth, make_chest_ct
from tests.bench import ct_lung as bench

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Truth, list[bytes]]:
    folder = tmp_path_factory.mktemp("chest")
    truth = make_chest_ct(folder, seed=3)
    return truth, [path.read_bytes() for path in sorted(folder.glob("*.dcm"))]


@pytest.fixture(scope="module")
def result(phantom: tuple[Truth, list[bytes]]) -> Result:
    return CtLung().run(phantom[1], "cpu", {})


def test_it_is_found_by_its_name() -> None:
    """The node and the price list reach it by entry point, as they would anybody's service."""
    found: Service = service("ct-lung")
    assert (found.name, found.version) == ("ct-lung", "1.0.0")
    assert found.digest() == CtLung().digest()
    assert len(found.digest()) == 64
    assert found.operations(2_000) == 2 * found.operations(1_000) > 0


def test_asking_for_a_price_needs_no_torch() -> None:
    """The bridge, which has no torch, can load the service."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from btt_bridge.infer.ct_lung import CtLung\n"
        "CtLung().operations(1), CtLung().digest()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_planted_nodules_are_found_where_and_as_large_as_they_are(
    phantom: tuple[Truth, list[bytes]], result: Result
) -> None:
    """Every planted nodule is a finding, within 1.5 mm of its place and half a millimetre of its size."""
    truth, _ = phantom
    for nodule in truth.nodules:
        near = min(result.findings, key=lambda finding: math.dist(finding.center_mm, nodule.center_mm))
        assert math.dist(near.center_mm, nodule.center_mm) < 1.5
        assert near.diameter_mm == pytest.approx(nodule.diameter_mm, abs=0.5)
        assert near.volume_mm3 == pytest.approx(math.pi / 6 * near.diameter_mm**3, rel=0.01)
        assert 0.55 <= near.score <= 1
    assert len(result.findings) <= len(truth.nodules) + 6


def test_lung_volume_and_emphysema_are_those_planted(phantom: tuple[Truth, list[bytes]], result: Result) -> None:
    """The lungs weigh in at the planted volume within 1 %, and emphysema within a quarter percent of the lungs."""
    truth, _ = phantom
    values = {one.concept.value: one.value for one in result.measurements}
    assert values["118565006"] == pytest.approx(truth.lung_volume_ml, rel=0.01)
    assert values["LAA-950"] == pytest.approx(100 * truth.emphysema_fraction, abs=0.25)
    assert -900 < values["112181"] < -780


def test_a_result_is_of_the_format(result: Result) -> None:
    """What the service makes passes the strict reader; each finding lies in its mask on the slice that it names."""
    assert replace(decode(encode(result)), masks=()) == replace(result, masks=())
    lungs, nodules = (np.unpackbits(mask.bits, axis=2, count=result.columns) for mask in result.masks)
    assert not (nodules & ~lungs & 1).any()
    for finding in result.findings:
        row, column = (round(place) for place in finding.center_px)
        assert nodules[result.slices.index(finding.sop_instance_uid), row, column]


def test_the_same_input_gives_the_same_result(phantom: tuple[Truth, list[bytes]], result: Result) -> None:
    """Order of arrival and number of threads change nothing, not even a bit of a mask."""
    torch.set_num_threads(2)
    try:
        again = CtLung().run(phantom[1][::-1], "cpu", {})
    finally:
        torch.set_num_threads(1)
    assert encode(again) == encode(result)


def test_a_body_without_lungs_is_refused(phantom: tuple[Truth, list[bytes]]) -> None:
    """An abdomen, or a chest filled with fluid, gets no number of any kind."""
    volume = read(phantom[1])
    with pytest.raises(MalformedError, match="no lungs"):
        analyze(replace(volume, hu=np.full_like(volume.hu, 40)), CPU)
    solid = np.where((volume.hu < -400) & (_inside_body(volume)), 40, volume.hu).astype(np.int16)
    with pytest.raises(MalformedError, match="no lungs"):
        analyze(replace(volume, hu=solid), CPU)


def _inside_body(volume: Volume) -> np.ndarray:
    inside = np.zeros(volume.hu.shape, bool)
    rows, columns = volume.hu.shape[1:]
    inside[:, rows // 6 : -rows // 6, columns // 6 : -columns // 6] = True
    return inside


def test_gas_in_the_bowel_is_no_lung(phantom: tuple[Truth, list[bytes]]) -> None:
    """A gas-filled stomach of a third of a liter, below the lungs, adds nothing to them."""
    volume = read(phantom[1])
    plain = analyze(volume, CPU)
    z, y, x = np.meshgrid(
        *(np.arange(n) * s for n, s in zip(volume.hu.shape, volume.spacing_mm, strict=True)), indexing="ij"
    )
    center = np.array([20.0, 180.0, 180.0])
    ball = np.sqrt((z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2) < 18
    noise = np.random.Generator(np.random.PCG64(1)).integers(-15, 16, volume.hu.shape)
    gas = np.where(ball, -990 + noise, volume.hu).astype(np.int16)
    assert analyze(replace(volume, hu=gas), CPU).lung_volume_ml == pytest.approx(plain.lung_volume_ml, rel=0.01)


@cache
def _real(folder: Path) -> tuple[Volume, Analysis]:
    volume = read([path.read_bytes() for path in sorted((folder / "ct_chest").glob("*.dcm"))])
    return volume, analyze(volume, CPU)


def test_a_real_chest_is_read_plausibly(test_data: Path) -> None:
    """Lung volume and density are those of a person with pneumonia, and the stomach's gas is not counted."""
    _, found = _real(test_data)
    assert 2_500 < found.lung_volume_ml < 3_000
    assert -800 < found.mean_density_hu < -700
    assert found.emphysema_percent < 1
    assert len(found.nodules) <= 10
    lungs = np.unpackbits(found.lung_bits, axis=2, count=512)
    assert not lungs[:20, 130:200].any()  # stomach
    assert lungs[124, 256, 100]


@pytest.mark.parametrize("kind", ["solid", "on a vessel", "on the pleura"])
def test_balls_set_into_a_real_lung_are_found(test_data: Path, kind: str) -> None:
    """Of balls from 5 to 20 mm in a real lung at most one in six is missed, and their size is right to a tenth."""
    volume, plain = _real(test_data)
    random = np.random.Generator(np.random.PCG64(11))
    balls = [ball for ball in bench.places(volume, plain, kind, random) if 5 <= ball.diameter_mm <= 20]
    assert len(balls) >= 5
    hits, others = bench.match(volume, balls, analyze(bench.with_balls(volume, balls, bench.KINDS[kind], random), CPU))
    assert len(hits) >= len(balls) - 1
    assert others <= 10
    for ball, diameter in hits:
        # The lungs' border cuts off what a ball has in the chest wall.
        part = 0.2 if kind == "on the pleura" else 0.1
        assert diameter == pytest.approx(ball.diameter_mm, abs=max(1.0, part * ball.diameter_mm))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_and_cpu_agree(phantom: tuple[Truth, list[bytes]], result: Result) -> None:
    """Measurements differ by less than a tenth of a percent, and the same nodules come out at the same places."""
    other = CtLung().run(phantom[1], "cuda", {})
    for ours, theirs in zip(result.measurements, other.measurements, strict=True):
        assert theirs.value == pytest.approx(ours.value, rel=1e-3, abs=0.05)
    assert len(other.findings) == len(result.findings)
    for ours_, theirs_ in zip(result.findings, other.findings, strict=True):
        assert math.dist(ours_.center_mm, theirs_.center_mm) < 0.5
        assert theirs_.diameter_mm == pytest.approx(ours_.diameter_mm, abs=0.1)
        assert theirs_.score == pytest.approx(ours_.score, abs=0.02)


def test_the_benchmark_chest_is_one_that_the_service_takes() -> None:
    """A node without any study can measure itself: lungs and both nodules of the made-up chest are found."""
    found = CtLung().run(tiny_chest(), "cpu", {})
    assert len(found.findings) >= 2
    assert found.measurements[0].value == pytest.approx(2 * math.pi / 6 * 96 * 140 * 130 / 1000, rel=0.05)
