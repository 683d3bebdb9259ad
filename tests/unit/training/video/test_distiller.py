from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from videocrafter.diffusion.guidance import Guidance
from videocrafter.diffusion.objective import add_noise, target
from videocrafter.diffusion.schedule import alphas_cumprod, cosine_betas_shifted, linear_betas
from videocrafter.pipelines.denoising import Conditions
from videocrafter.training.video.distillation_config import Distillation
from videocrafter.training.video.distiller import Distiller, without_gradient
from videocrafter.training.video.segments import CLEAN, segment_grid
from videocrafter.training.video.student_networks import WeightAverage

CPU = torch.device("cpu")
MINIATURE = alphas_cumprod(cosine_betas_shifted(1000, 36))
PAPER = alphas_cumprod(linear_betas())
SHAPE = (24, 1, 2, 2, 2)
Predict = Callable[[Tensor, Tensor, Tensor], Tensor]


class Networks:
    """Networks that are functions of (noisy, timestep, text); records which were called, and with what."""

    def __init__(self, **networks: Predict) -> None:
        self.networks, self.calls = networks, []

    def _call(self, name: str, *inputs: Any) -> Tensor:
        self.calls.append((name, inputs))
        return self.networks[name](*inputs[:3])

    def student(self, *inputs: Any) -> Tensor:
        return self._call("student", *inputs)

    def teacher(self, *inputs: Any) -> Tensor:
        return self._call("teacher", *inputs)

    def fake(self, *inputs: Any) -> Tensor:
        return self._call("fake", *inputs)

    def modules(self) -> Mapping[str, nn.Module]:
        return {}

    def trained(self) -> dict[str, nn.Parameter]:
        return {}

    def averaged(self, average: WeightAverage, *inputs: Any) -> Tensor:
        raise NotImplementedError


def knows(point: float, kind: str = "v_prediction", abar: Tensor = MINIATURE) -> Predict:
    """The exact model of data that are always the same number."""

    def predict(noisy: Tensor, time: Tensor, text: Tensor) -> Tensor:
        level = abar[time].float()
        shape = (-1, 1, 1, 1, 1)
        data = torch.full_like(noisy, point)
        noise = (noisy - level.sqrt().reshape(shape) * data) / (1 - level).sqrt().reshape(shape)
        return target(data, noise, level, kind)  # type: ignore[arg-type]

    return predict


def conditions(mark: float, count: int = SHAPE[0]) -> Conditions:
    return Conditions(text=torch.full((count, 1, 1), mark), fps=torch.full((count,), 8.0))


def distiller(
    networks: Networks, scale: float = 1.0, kind: str = "v_prediction", abar: Tensor = MINIATURE, **settings: Any
) -> Distiller:
    return Distiller(
        Distillation(**settings),
        networks,
        Guidance(guidance_scale=scale),
        alphas_cumprod=abar,
        prediction_type=kind,  # type: ignore[arg-type]
        input_scale=None,
        device=CPU,
    )


def losses(found: Distiller, latents: Tensor, seed: int = 0) -> Tensor:
    return found.consistency(latents, conditions(1), conditions(0), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kind", "abar"), [("v_prediction", MINIATURE), ("epsilon", PAPER)])
def test_an_ideal_consistency_function_has_no_loss(kind: str, abar: Tensor) -> None:
    """Data that are one point: the teacher's paths are straight, and the exact model is the consistency function."""
    exact = knows(2.0, kind, abar)
    found = distiller(Networks(student=exact, teacher=exact), kind=kind, abar=abar)
    latents = torch.full(SHAPE, 2.0)
    assert float(losses(found, latents).max()) < 1e-3
    other = distiller(Networks(student=knows(0.0, kind, abar), teacher=exact), kind=kind, abar=abar)
    assert float(losses(other, latents).mean()) > 0.02


def test_an_untrained_student_whose_segments_are_single_steps_is_the_teachers_ddim() -> None:
    def network(noisy: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return torch.tanh(noisy + time.reshape(-1, 1, 1, 1, 1) / 1000)

    found = distiller(Networks(student=network, teacher=network))
    assert float(losses(found, torch.randn(SHAPE)).max()) > 0.01, "not with four segments"
    grid = segment_grid(MINIATURE, (999,), 12)
    found._grid = replace(grid, ends=grid.nexts)
    assert float(losses(found, torch.randn(SHAPE)).max()) < 1e-6


def test_the_teacher_is_guided_and_the_student_sees_the_text_alone() -> None:
    def teacher(noisy: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return text.reshape(-1, 1, 1, 1, 1).expand_as(noisy)

    networks = Networks(student=teacher, teacher=teacher)
    found = distiller(networks, scale=3.0)
    noisy, time = torch.zeros(SHAPE), torch.full((SHAPE[0],), 500)
    moved = found.teacher_step(noisy, time, torch.full((SHAPE[0],), CLEAN), conditions(1), conditions(-1))
    # Guided velocity -1 + 3 · (1 - -1) = 5; the clean latent of zeros is minus sigma times that.
    torch.testing.assert_close(moved, torch.full(SHAPE, -5 * float((1 - MINIATURE[500]).sqrt())))
    networks.calls.clear()
    losses(found, torch.zeros(SHAPE))
    texts = {name: set(inputs[2].flatten().tolist()) for name, inputs in networks.calls}
    assert texts == {"student": {1.0}, "teacher": {0.0, 1.0}}
    unguided = distiller(networks, scale=1.0)
    networks.calls.clear()
    losses(unguided, torch.zeros(SHAPE))
    assert [len(inputs[0]) for name, inputs in networks.calls if name == "teacher"] == [SHAPE[0]], "one branch"


def test_the_teacher_is_guided_at_the_noise_levels_that_it_recommends() -> None:
    def teacher(noisy: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return text.reshape(-1, 1, 1, 1, 1).expand_as(noisy)

    found = distiller(Networks(student=teacher, teacher=teacher))
    found.guidance = Guidance(guidance_scale=3.0, guidance_log_snr=(-2.0, 1.0))
    log_snr = torch.log(MINIATURE / (1 - MINIATURE))
    times = torch.arange(len(MINIATURE))[:: len(MINIATURE) // SHAPE[0]][: SHAPE[0]]
    predicted = found._guided(torch.zeros(SHAPE), times, conditions(1), conditions(-1))[:, 0, 0, 0, 0]
    is_guided = (log_snr[times] >= -2) & (log_snr[times] < 1)
    assert 0 < int(is_guided.sum()) < SHAPE[0]
    torch.testing.assert_close(predicted, torch.where(is_guided, 5.0, 1.0))


def test_targets_get_no_gradient() -> None:
    weight = torch.tensor(0.5, requires_grad=True)
    calls = []

    def student(noisy: Tensor, time: Tensor, text: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return weight * noisy

    found = distiller(Networks(student=student, teacher=student))
    losses(found, torch.randn(SHAPE)).mean().backward()
    assert calls == [True, False, False]
    assert weight.grad is not None


def test_rounded_weights_of_targets_do_not_cut_off_gradients() -> None:
    layer = nn.Linear(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with without_gradient(CPU):
            assert layer(torch.ones(1, 2)).dtype == torch.bfloat16
        layer(torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None


def test_an_average_follows_its_parameters_and_is_saved() -> None:
    layer = nn.Linear(1, 1)
    layer.weight.data.fill_(0.0)
    average = WeightAverage(dict(layer.named_parameters()), 0.75)
    layer.weight.data.fill_(4.0)
    average.update()
    assert float(average.values()["weight"]) == pytest.approx(1.0)
    average.update()
    assert float(average.values()["weight"]) == pytest.approx(1.75)
    again = WeightAverage(dict(layer.named_parameters()), 0.75)
    again.load_state_dict(average.state_dict())
    assert float(again.values()["weight"]) == pytest.approx(1.75)
    assert list(average.parameters()) == []
    average.restart()
    assert float(average.values()["weight"]) == 4.0


# Trajectory matching


def matching(networks: Networks, seed: int = 0, **settings: Any) -> tuple[Tensor, dict[str, Tensor]]:
    found = distiller(networks, method="matching", **settings)
    generator = torch.Generator().manual_seed(seed)
    return found.loss(torch.zeros(SHAPE), conditions(1), conditions(0), generator)


def test_a_student_that_makes_the_teachers_data_is_at_rest() -> None:
    exact = knows(2.0)
    loss, metrics = matching(Networks(student=exact, teacher=exact, fake=exact))
    assert float(loss) < 0.01
    _, off = matching(Networks(student=knows(0.0), teacher=exact, fake=knows(0.0)))
    assert float(off["loss_student"]) == pytest.approx(1.0, rel=0.01), "2 away, divided by the distance 2"
    assert float(off["loss_fake"]) < 1e-4, "the fake score knows the student's data"
    assert metrics.keys() == {"loss_student", "loss_fake"}


def test_inputs_come_from_the_students_own_path() -> None:
    """The student is called at the segments' first timesteps, on the path from its own predictions."""
    exact = knows(2.0)
    networks = Networks(student=exact, teacher=exact, fake=exact)
    matching(networks)
    times = [sorted(set(inputs[1].tolist())) for name, inputs in networks.calls if name == "student"]
    assert times == [[999], [487], [146], [46, 146, 487, 999]]
    last, (_, fakes) = (next(i for n, i in reversed(networks.calls) if n == "student"), networks.calls[4])
    assert networks.calls[4][0] == "fake"
    begun, drawn = last[1], fakes[1]
    ends = {999: 487, 487: 146, 146: 46, 46: CLEAN}
    assert all(ends[int(start)] < int(time) < int(start) for start, time in zip(begun, drawn, strict=True))
    noise = (last[0] - MINIATURE[begun].sqrt().float().reshape(-1, 1, 1, 1, 1) * 2) / (
        (1 - MINIATURE[begun]).sqrt().float().reshape(-1, 1, 1, 1, 1)
    )
    torch.testing.assert_close(add_noise(torch.full(SHAPE, 2.0), noise, MINIATURE[begun].float()), last[0])
    assert float(noise.std()) == pytest.approx(1, abs=0.2), "the noise that the path began with"


def test_gradients_of_student_and_fake_score_do_not_mix() -> None:
    weights = {name: torch.tensor(0.5, requires_grad=True) for name in ("student", "fake")}

    def scaled(name: str) -> Predict:
        return lambda noisy, time, text: weights[name] * noisy

    networks = Networks(student=scaled("student"), fake=scaled("fake"), teacher=knows(2.0))
    loss, metrics = matching(networks)
    student, fake = torch.autograd.grad(loss, list(weights.values()))
    assert float(student) != 0
    assert float(fake) != 0
    found = distiller(networks, method="matching", student_every=2)
    found.begin_step(1)
    generator = torch.Generator().manual_seed(0)
    alone, numbers = found.loss(torch.zeros(SHAPE), conditions(1), conditions(0), generator)
    assert numbers.keys() == {"loss_fake"}
    assert float(numbers["loss_fake"]) == float(metrics["loss_fake"])
    of_student, of_fake = torch.autograd.grad(alone, list(weights.values()), allow_unused=True)
    assert of_student is None
    assert float(of_fake) == float(fake), "the student's loss gives the fake score no gradient"
    found.begin_step(2)
    assert "loss_student" in found.loss(torch.zeros(SHAPE), conditions(1), conditions(0), generator)[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lcm"}, "expected 'consistency' or 'matching'"),
        ({"guidance_scale": 0.5}, "it must be 1"),
        ({"segment_snr": (0.5, 0.03)}, "in ascending order"),
        ({"segment_snr": (0.0,)}, "numbers above 0"),
        ({"grid_size": 3}, "at least 4"),
        ({"target_decay": 1.0}, r"\[0, 1\)"),
        ({"student_every": 0}, "1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distillation(**settings)
