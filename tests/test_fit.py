"""The solvers against plain autograd, written here from the formulas alone."""

import copy
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader

from avfeat.errors import LengthError, ProbeError
from probes.adam import AdamSettings, Shuffle
from probes.featureset import FeatureSet
from probes.fit import fit
from probes.lbfgs import LbfgsSettings, search
from probes.objective import clip_scores
from probes.pooling import Pooling
from tests.ragged import planted, planted_arrays

POOLS = {
    "lse": lambda z: torch.logsumexp(z, 0),
    "lse-mean": lambda z: torch.logsumexp(z, 0) - math.log(len(z)),
    "max": lambda z: z.max(0).values,
    "min": lambda z: z.min(0).values,
    "mean": lambda z: z.mean(0),
    "top:3": lambda z: z.topk(min(3, len(z)), 0).values.mean(0),
    "lse:0.5": lambda z: 0.5 * torch.logsumexp(2 * z, 0),
}


def plain_loss(model, rows, label, pool="lse"):
    score = POOLS[pool](model(normalize(torch.as_tensor(rows).float(), dim=1)))
    return cross_entropy(torch.cat([-score, score])[None], torch.tensor([label]))


def plain_training(train, val, seed=43, epochs=100, patience=10, lr=1e-3, pool="lse"):
    """One clip a step with PyTorch's own layers, losses, loaders and optimiser."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(train[0][0].shape[1], 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    best, best_loss, best_epoch, losses = None, math.inf, 0, []
    for epoch in range(1, epochs + 1):
        for rows, label in DataLoader(train, shuffle=True, batch_size=None):
            optimiser.zero_grad()
            plain_loss(model, rows, int(label), pool).backward()
            optimiser.step()
        with torch.no_grad():
            loader = DataLoader(val, batch_size=None)
            loss = float(np.mean([float(plain_loss(model, rows, int(label), pool)) for rows, label in loader]))
        losses.append(loss)
        if loss < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(model), loss, epoch
        elif epoch - best_epoch >= patience:
            break
    return torch.cat([best.weight.detach()[0], best.bias.detach()]), losses, best_epoch


def clips(**settings):
    arrays, labels = planted_arrays(**settings)
    return list(zip(arrays, labels.tolist(), strict=True))


@pytest.mark.parametrize("pool", POOLS)
def test_two_hundred_steps_of_adam_end_at_the_weights_of_plain_autograd(pool):
    train, val = clips(clips=50, width=48), clips(clips=10, width=48, seed=1)
    expected, losses, best = plain_training(train, val, epochs=4, pool=pool)
    fitted = fit(
        planted(clips=50, width=48),
        planted(clips=10, width=48, seed=1),
        pools=[Pooling.parse(pool)],
        settings=AdamSettings(epochs=4),
    )
    torch.testing.assert_close(fitted.theta[0], expected, atol=1e-5, rtol=0)
    assert [row[0] for row in fitted.history] == pytest.approx(losses, abs=1e-5)
    assert fitted.columns[0].step == best


def test_adam_stops_and_keeps_the_best_epoch_as_the_plain_loop_does():
    settings = {"clips": 12, "width": 40, "strength": 0.3}
    train, val = clips(**settings), clips(**settings, seed=9)
    expected, losses, best = plain_training(train, val, patience=3, lr=0.02)
    assert best < len(losses) < 100
    fitted = fit(
        planted(**settings),
        planted(**settings, seed=9),
        settings=AdamSettings(learning_rate=0.02, patience=3),
    )
    assert (fitted.columns[0].step, len(fitted.history)) == (best, len(losses))
    assert fitted.columns[0].stopped == "patience"
    torch.testing.assert_close(fitted.theta[0], expected, atol=1e-4, rtol=0)


def test_initial_weights_and_orders_are_those_of_a_linear_layer_and_a_loader():
    torch.manual_seed(5)
    layer = torch.nn.Linear(100, 1)
    orders = [[int(x) for x in DataLoader(list(range(30)), shuffle=True, batch_size=None)] for _ in range(2)]
    draws = Shuffle(5)
    assert torch.equal(draws.initial(100), torch.cat([layer.weight[0], layer.bias]).detach())
    assert [draws.order(30), draws.order(30)] == orders


@pytest.mark.parametrize("settings", [AdamSettings(epochs=3), LbfgsSettings(evaluations=25)])
def test_many_probes_at_once_equal_each_fitted_alone(settings):
    train, val = planted(), planted(seed=1)
    pools, decays = [Pooling("lse"), Pooling("max"), Pooling("mean")], [0.0, 0.01]
    together = fit(train, val, pools=pools, weight_decays=decays, settings=settings)
    for k, column in enumerate(together.columns):
        alone = fit(train, val, pools=[column.pool], weight_decays=[column.weight_decay], settings=settings)
        torch.testing.assert_close(together.theta[k], alone.theta[0], atol=2e-3, rtol=1e-3)
        assert column.loss == pytest.approx(alone.columns[0].loss, abs=1e-4)


def test_seeds_start_apart_and_the_first_is_as_if_alone():
    train, val = planted(), planted(seed=1)
    both = fit(train, val, seeds=[43, 44], settings=AdamSettings(epochs=2))
    alone = fit(train, val, seeds=[43], settings=AdamSettings(epochs=2))
    torch.testing.assert_close(both.theta[0], alone.theta[0], atol=1e-6, rtol=0)
    assert (both.theta[0] - both.theta[1]).abs().max() > 0.05


def test_several_features_are_normalised_each_and_weigh_into_one_score():
    rng = np.random.default_rng(0)
    lengths = [4, 7, 2]
    left, right = (
        [rng.normal(size=(n, width)).astype(np.float32) * scale for n in lengths]
        for width, scale in ((5, 1.0), (3, 80.0))
    )
    joined = FeatureSet.from_frames(
        np.concatenate([np.concatenate(pair, axis=1) for pair in zip(left, right, strict=True)]),
        np.cumsum([0, *lengths]),
        features=("a", "b"),
        widths=(5, 3),
    )
    theta = torch.randn(2, 9)
    expected = [
        [
            float(
                torch.logsumexp(
                    normalize(torch.tensor(a), dim=1) @ row[:5] + normalize(torch.tensor(b), dim=1) @ row[5:8] + row[8],
                    0,
                )
            )
            for row in theta
        ]
        for a, b in zip(left, right, strict=True)
    ]
    torch.testing.assert_close(clip_scores(joined, theta, [Pooling()] * 2), torch.tensor(expected))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_gradient_and_loss_of_the_full_batch_equal_autograd(pool, class_weight, monkeypatch):
    from probes import featureset
    from probes.solving import Problem

    monkeypatch.setattr(featureset, "BLOCK_BYTES", 64 * 4 * 16)
    arrays, labels = planted_arrays(clips=31)
    data = FeatureSet.from_arrays(arrays, labels)
    assert len(data.spans) > 2
    model = torch.nn.Linear(16, 1)
    counts = np.bincount(labels)
    weights = np.full(31, 1 / 31) if class_weight == "none" else 0.5 / counts[labels]
    losses = [w * plain_loss(model, rows, int(y), pool) for rows, y, w in zip(arrays, labels, weights, strict=True)]
    total = torch.stack(losses).sum() + 0.5 * 0.1 * model.weight.square().sum()
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(total, list(model.parameters()))])
    theta = torch.cat([model.weight[0], model.bias]).detach()[None]
    gradient = torch.empty_like(theta)
    problem = Problem(data, None, (Pooling.parse(pool),), torch.tensor([0.1]), (0,), class_weight)
    loss = problem.training_loss(theta, gradient)
    assert float(loss) == pytest.approx(float(total.detach()), rel=1e-5)
    torch.testing.assert_close(gradient[0], expected, atol=1e-5, rtol=1e-4)


def test_lbfgs_reaches_the_optimum_of_a_regularised_problem():
    train = planted(clips=200, strength=0.5)
    found = fit(train, weight_decays=[0.01], pools=[Pooling("mean")], settings=LbfgsSettings(tolerance=1e-12))
    from scipy.optimize import minimize

    rows = torch.cat([part.mean(0, keepdim=True) for part in _normalised(train)]).double().numpy()
    labels = train.labels.numpy()

    def objective(theta):
        scores = rows @ theta[:-1] + theta[-1]
        slope = 2 * (1 / (1 + np.exp(-2 * scores)) - labels) / len(labels)
        loss = np.mean(np.logaddexp(0, 2 * scores) - 2 * scores * labels) + 0.005 * theta[:-1] @ theta[:-1]
        return loss, np.append(rows.T @ slope + 0.01 * theta[:-1], slope.sum())

    best = minimize(objective, np.zeros(17), jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9})
    assert found.columns[0].loss == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(found.theta[0], best.x, atol=5e-3)


def several_features():
    """Two features of unequal scale side by side, some of their parts zero."""
    arrays, labels = planted_arrays(clips=24, width=19, dtype=np.float16)
    for k, rows in enumerate(arrays):
        rows[:, 7:] *= 40
        rows[k % len(rows), :7] = 0
    return FeatureSet.from_arrays(arrays, labels, features=("a", "b"), widths=(7, 12))


@pytest.mark.parametrize("probes", [1, 3, 17])
@pytest.mark.parametrize("data", [several_features(), planted(clips=24)], ids=["float16", "float32"])
def test_compiled_loops_equal_the_operations_that_a_gpu_follows(data, probes, monkeypatch):
    from probes import adam, objective, processor
    from probes.solving import Problem

    pools = tuple(Pooling.parse(list(POOLS)[k % len(POOLS)]) for k in range(probes))
    theta = torch.randn(probes, data.width + 1)
    weights = torch.linspace(0.01, 0.1, len(data))
    found = []
    for evaluator, walk in (
        (processor.evaluator, processor.walk),
        (objective.general_evaluator, adam.general_walk),
    ):
        monkeypatch.setattr(processor, "evaluator", evaluator)
        monkeypatch.setattr(processor, "walk", walk)
        gradient = torch.empty_like(theta)
        losses = objective.evaluate(data, theta, pools, weights, gradient)
        problem = Problem(data, None, pools, torch.full((probes,), 0.1), tuple(range(probes)))
        state = adam.Adam(theta.clone(), 1e-3)
        adam.epoch(data, list(range(len(data))), state, problem, 24 * weights)
        found.append((losses, gradient, clip_scores(data, theta, pools), state.theta, state.mean, state.square))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5, check_dtype=False)
    assert state.steps == len(data)


def _normalised(data):
    return [normalize(data[k].float(), dim=1) for k in range(len(data))]


def test_the_search_minimises_a_curved_valley():
    def rosenbrock(x):
        a, b = 1 - x[:-1], x[1:] - x[:-1] ** 2
        slope = np.zeros_like(x)
        slope[:-1] = -2 * a - 400 * x[:-1] * b
        slope[1:] += 200 * b
        return float((a**2 + 100 * b**2).sum()), slope

    steps = search(np.zeros(6), LbfgsSettings(tolerance=1e-15))
    point = next(steps)
    with pytest.raises(StopIteration, match="converged"):
        for _ in range(200):
            point = steps.send(rosenbrock(point))
    np.testing.assert_allclose(point, np.ones(6), atol=1e-4)


def test_the_best_point_on_validation_is_kept_not_the_last():
    train, val = planted(clips=16, width=64, strength=0.2), planted(clips=16, width=64, strength=0.2, seed=5)
    fitted = fit(train, val)
    curve = [row[0] for row in fitted.history]
    assert fitted.columns[0].loss == min(curve) < curve[-1]
    assert curve.index(min(curve)) + 1 == fitted.columns[0].step


def test_ctrl_c_keeps_the_best_so_far():
    train, val = planted(), planted(seed=1)

    def press(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    for settings in (AdamSettings(), LbfgsSettings()):
        fitted = fit(train, val, settings=settings, tell=press)
        assert fitted.interrupted
        assert fitted.columns[0].loss == min(row[0] for row in fitted.history[:3])


def test_float16_frames_give_the_scores_of_their_float32_copies():
    arrays, labels = planted_arrays(dtype=np.float16)
    half = FeatureSet.from_arrays(arrays, labels)
    full = FeatureSet.from_arrays([rows.astype(np.float32) for rows in arrays], labels)
    assert (half.frames.dtype, full.frames.dtype) == (torch.float16, torch.float32)
    theta = torch.randn(3, 17)
    torch.testing.assert_close(
        clip_scores(half, theta, [Pooling()] * 3), clip_scores(full, theta, [Pooling()] * 3), atol=1e-5, rtol=1e-5
    )


def test_frames_of_another_type_or_order_are_read_as_float32():
    arrays, labels = planted_arrays()
    offsets = np.cumsum([0, *map(len, arrays)])
    frames = np.concatenate(arrays)
    plain = FeatureSet.from_frames(frames, offsets, labels)
    assert np.shares_memory(plain.frames.numpy(), frames)
    theta = torch.randn(2, 17)
    for other in (frames.astype(np.float64), np.asfortranarray(frames)):
        data = FeatureSet.from_frames(other, offsets, labels)
        for probes in (1, 2):
            pools = [Pooling()] * probes
            assert torch.equal(clip_scores(data, theta[:probes], pools), clip_scores(plain, theta[:probes], pools))


def test_loops_that_can_be_kept_nowhere_say_what_to_set():
    code = (
        "import numpy as np\n"
        "from avfeat.errors import ProbeError\n"
        "from probes.featureset import FeatureSet\n"
        "from probes.fit import fit\n"
        "try:\n    fit(FeatureSet.from_arrays([np.ones((2, 3), np.float32)] * 2, [0, 1]))\n"
        "except ProbeError as error:\n    print(error)\n"
    )
    # As when neither the package nor the home can be written to: the loops lie in no zip file.
    environment = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert "set NUMBA_CACHE_DIR to a folder that can be written to" in done.stdout


def test_a_piece_of_work_stays_on_its_core_and_leaves_the_number_of_threads_alone():
    code = (
        "import torch\n"
        "from threadpoolctl import threadpool_info\n"
        "from probes.cores import spread\n"
        "def threads(piece):\n"
        "    return [each['num_threads'] for each in threadpool_info() if each['user_api'] == 'openmp']\n"
        "print(spread(threads, [0, 1]), threads(0) == [torch.get_num_threads()])\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[[1], [1]] True"


def test_a_frame_of_zeros_scores_the_bias():
    data = FeatureSet.from_arrays([np.zeros((1, 4), np.float32)])
    theta = torch.tensor([[1.0, 2.0, 3.0, 4.0, 0.25]])
    assert clip_scores(data, theta, [Pooling()]).item() == 0.25


def test_a_set_that_cannot_teach_is_refused_in_one_sentence():
    rows = np.ones((3, 4), np.float32)
    with pytest.raises(ProbeError, match="all 2 clips are fake"):
        fit(FeatureSet.from_arrays([rows, rows], [1, 1]))
    with pytest.raises(ProbeError, match="clip b has no label"):
        fit(FeatureSet.from_arrays([rows, rows], [1, -1], ["a", "b"]))
    with pytest.raises(ProbeError, match=r"Clip b has no frames"):
        FeatureSet.from_arrays([rows, rows[:0]], [0, 1], ["a", "b"])
    with pytest.raises(ProbeError, match=r"unequal width: 4 \(e.g. a\), 5 \(e.g. b\)"):
        FeatureSet.from_arrays([rows, np.ones((3, 5))], [0, 1], ["a", "b"])
    with pytest.raises(LengthError, match="2 clips but 3 labels"):
        FeatureSet.from_arrays([rows, rows], [0, 1, 1])
    with pytest.raises(ProbeError, match="0 \\(real\\), 1 \\(fake\\)"):
        FeatureSet.from_arrays([rows, rows], [0, 0.5])
    with pytest.raises(ProbeError, match="no clip"):
        FeatureSet.from_arrays([])
    spoilt = np.ones((3, 4), np.float16)
    spoilt[1, 2] = np.inf
    with pytest.raises(ProbeError, match="Clip b has a value that is not finite in frame 1"):
        FeatureSet.from_arrays([rows, spoilt], [0, 1], ["a", "b"])
    with pytest.raises(ProbeError, match=r"Validation set: frames are feature .5 wide., but .* feature .4 wide."):
        fit(FeatureSet.from_arrays([rows, rows], [0, 1]), FeatureSet.from_arrays([np.ones((3, 5))] * 2, [0, 1]))


def test_on_a_slope_that_goes_on_the_search_doubles_its_step():
    steps = search(np.array([1000.0]), LbfgsSettings())
    point, visited = next(steps), []
    for _ in range(6):
        point = steps.send((float(abs(point[0])), np.sign(point)))
        visited.append(float(point[0]))
    assert visited == [999.0, 998.0, 996.0, 992.0, 984.0, 968.0]
