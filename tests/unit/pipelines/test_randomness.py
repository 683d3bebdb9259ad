import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, UniPCMultistepScheduler

from videocrafter.diffusion.schedule import cosine_betas_shifted
from videocrafter.diffusion.schedulers import build_scheduler
from videocrafter.pipelines.randomness import draw_noise, make_generators, step_arguments


def test_one_seed_gives_each_prompt_the_same_seeds():
    seeds, generators = make_generators(5, None, num_prompts=2, num_videos_per_prompt=3)
    assert seeds == (5, 6, 7, 5, 6, 7)
    assert [one.initial_seed() for one in generators] == [5, 6, 7, 5, 6, 7]


def test_without_seeds_they_are_drawn_from_torch_and_can_be_repeated():
    torch.manual_seed(3)
    first, _ = make_generators(None, None, 1, 4)
    torch.manual_seed(3)
    second, _ = make_generators(None, None, 1, 4)
    assert first == second
    assert len(set(first)) == 4


def test_one_generator_decides_all_seeds():
    first, _ = make_generators(None, torch.Generator().manual_seed(1), 2, 1)
    second, _ = make_generators(None, torch.Generator().manual_seed(1), 2, 1)
    assert first == second
    assert first[0] != first[1]


def test_generators_of_the_caller_are_used_as_they_are():
    mine = [torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)]
    seeds, generators = make_generators(None, mine, 2, 1)
    assert seeds == (None, None)
    assert generators == tuple(mine)


@pytest.mark.parametrize(
    ("seeds", "generator", "message"),
    [
        ([1, 2, 3], None, "3 entries for 2 videos; pass one seed, or one per video"),
        (-1, None, "between 0 and 2"),
        (2**63, None, "between 0 and 2"),
        (1, torch.Generator(), "cannot be combined"),
        (None, [torch.Generator()], "1 entries for 2 videos; pass one per video"),
    ],
)
def test_wrong_seeds_are_refused(seeds, generator, message):
    with pytest.raises(ValueError, match=message):
        make_generators(seeds, generator, 2, 1)


def test_noise_of_a_video_does_not_depend_on_its_neighbours():
    together = draw_noise((4, 2, 3, 3), make_generators([7, 8], None, 2, 1)[1])
    alone = draw_noise((4, 2, 3, 3), make_generators([8], None, 1, 1)[1])
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


def test_step_arguments_follow_the_scheduler():
    generators = make_generators(1, None, 1, 2)[1]
    assert step_arguments(DDIMScheduler(), generators, 0.5) == {"eta": 0.5, "generator": list(generators)}
    assert step_arguments(EulerAncestralDiscreteScheduler(), generators, 0.0) == {"generator": list(generators)}
    assert step_arguments(UniPCMultistepScheduler(), generators, 0.0) == {}


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("steps", range(1, 30))
def test_ddim_with_eta_1_survives_the_step_from_pure_noise(steps, prediction_type):
    config = {"trained_betas": cosine_betas_shifted(snr_shift=4.0).tolist(), "prediction_type": prediction_type}
    # The schedule of a model that predicts noise ends just above pure noise, where rounding has the same effect.
    scheduler = build_scheduler("ddim", config, zero_terminal_snr=True)
    scheduler.set_timesteps(steps)
    generators = make_generators(1, None, 1, 1)[1]
    noise = draw_noise((1, 2, 2, 2), generators)
    arguments = step_arguments(scheduler, generators, 1.0)
    result = scheduler.step(noise, scheduler.timesteps[0], noise, return_dict=False, **arguments)[0]
    assert torch.isfinite(result).all()


def test_brownian_sampler_gets_one_integer_per_video_from_its_own_generator():
    class Brownian:
        noise_sampler = "left over from an earlier run"
        noise_sampler_seed = None

        def step(self, model_output, timestep, sample):
            raise NotImplementedError

    together, alone = Brownian(), Brownian()
    step_arguments(together, make_generators([1, 2], None, 2, 1)[1], 0.0)
    step_arguments(alone, make_generators([2], None, 1, 1)[1], 0.0)
    assert together.noise_sampler is None
    assert together.noise_sampler_seed[1] == alone.noise_sampler_seed[0]
    assert together.noise_sampler_seed[0] != together.noise_sampler_seed[1]
