"""Averages of networks against closed forms and torch's own, statistics against a float64 loop, and what is refused."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.optim import swa_utils

from kdcourse.averaging import average_models, moving_average, reset_batchnorm
from kdcourse.models import conv_net, mlp
from kdcourse.pruning import apply_masks, layer_magnitude_masks, masks_of
from kdcourse.quantization import fake_quantize_model

IMAGES = torch.rand(24, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def network(seed=0, dtype=torch.float64):
    """A small convolutional network whose batch norms have statistics that matter."""
    model = conv_net((3, 4), seed=seed)
    torch.manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
            part.num_batches_tracked.fill_(seed + 3)
    return model.to(dtype)


def state(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def shared_storage(one, other):
    owned = {value.untyped_storage().data_ptr() for value in one.state_dict().values()}
    return any(value.untyped_storage().data_ptr() in owned for value in other.state_dict().values())


# --- moving averages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 1.0])
def test_after_equal_steps_the_average_is_the_closed_form(decay):
    average, model, start = network(0), network(1), state(network(0))
    for _ in range(5):
        moving_average(average, model, decay=decay)
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            expected = (1 - decay**5) * model.state_dict()[name] + decay**5 * start[name]
            torch.testing.assert_close(value, expected, rtol=1e-13, atol=1e-14, msg=name)
        else:
            assert value == model.state_dict()[name] == 4, name


def test_it_gives_the_numbers_of_torchs_averaged_model():
    average, model = network(0, torch.float32), network(0, torch.float32)
    torchs = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True)
    torchs.update_parameters(model)  # its first update copies
    for seed in (1, 2, 3):
        model = network(seed, torch.float32)
        moving_average(average, model, decay=0.9)
        torchs.update_parameters(model)
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, torchs.module.state_dict()[name]), name


def test_a_decay_that_grows_gives_the_plain_mean_of_all_iterates():
    iterates = [network(seed) for seed in range(4)]
    average = copy.deepcopy(iterates[0])
    for number, model in enumerate(iterates[1:], start=1):
        moving_average(average, model, decay=number / (number + 1))
    mean = average_models(iterates)
    for name, value in average.named_parameters():
        torch.testing.assert_close(value, mean.get_parameter(name), rtol=1e-13, atol=1e-14)


def test_the_model_is_left_alone_and_both_keep_modes_and_requires_grad():
    average, model = network(0).eval(), network(1).train()
    average.requires_grad_(False)
    identities, before = [id(value) for value in average.parameters()], state(model)
    moving_average(average, model, decay=0.5)
    assert same(state(model), before)
    assert not shared_storage(average, model)
    assert model.training
    assert not average.training
    assert not any(part.training for part in average.modules())
    assert not any(value.requires_grad for value in average.parameters())
    assert all(value.requires_grad and value.grad is None for value in model.parameters())
    assert identities == [id(value) for value in average.parameters()]


def test_an_average_of_parameters_that_take_a_gradient_has_no_history():
    average, model = network(0), network(1)
    moving_average(average, model, decay=0.5)
    assert all(value.is_leaf and value.grad_fn is None for value in average.parameters())
    assert all(value.grad_fn is None for value in average.buffers())


def test_a_float32_average_of_a_bfloat16_network_does_not_stop():
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    nn.init.ones_(model.weight)
    average = copy.deepcopy(model).float()
    nn.init.zeros_(average.weight)
    for _ in range(3000):
        moving_average(average, model, decay=0.999)
    assert average.weight.item() == pytest.approx(1 - 0.999**3000, abs=1e-4)
    with pytest.raises(ValueError, match=r"bfloat16.*keep it in float32"):
        moving_average(copy.deepcopy(model), model, decay=0.999)
    with pytest.raises(ValueError, match="is torch.float32 in model and torch.float16 in average"):
        moving_average(nn.Linear(2, 1).half(), nn.Linear(2, 1), decay=0.9)


def test_masks_follow_the_model():
    model = network(0)
    apply_masks(model, layer_magnitude_masks(model, 0.3))
    average = copy.deepcopy(model)
    apply_masks(model, layer_magnitude_masks(model, 0.6))
    moving_average(average, model, decay=0.9)
    for name, mask in masks_of(model).items():
        assert torch.equal(masks_of(average)[name], mask)
        assert not average.get_submodule(name).weight[~mask].any()


def test_tied_weights_are_moved_once():
    def tied():
        model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
        model[1].weight = model[0].weight
        return model.double()

    average, model = tied(), tied()
    start = average[0].weight.detach().clone()
    moving_average(average, model, decay=0.75)
    torch.testing.assert_close(average[0].weight, 0.25 * model[0].weight + 0.75 * start)
    assert average[1].weight is average[0].weight


def test_shared_tensors_are_refused():
    model = network(0)
    average = copy.deepcopy(model)
    average.norm1.running_mean = model.norm1.running_mean
    for wrong in (average, model):
        before = state(wrong)
        with pytest.raises(ValueError, match="share.*copy.deepcopy"):
            moving_average(wrong, model, decay=0.5)
        assert same(state(wrong), before)


def test_a_part_of_one_storage_is_shared_and_tensors_without_elements_are_not():
    class Parts(nn.Module):
        def __init__(self, values):
            super().__init__()
            self.register_buffer("values", values)
            self.register_buffer("none", torch.empty(0))

    memory = torch.zeros(6)
    for average, model in ((memory[:4], memory[2:]), (memory[2:], memory[:4])):
        with pytest.raises(ValueError, match="share 'values'"):
            moving_average(Parts(average), Parts(model), decay=0.5)
    average = Parts(torch.zeros(4))
    moving_average(average, Parts(torch.ones(4)), decay=0.5)
    assert average.values.tolist() == [0.5] * 4


def test_an_integer_buffer_of_another_width_is_refused():
    average, model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    model.num_batches_tracked = model.num_batches_tracked.int()
    with pytest.raises(ValueError, match="'num_batches_tracked' is torch.int32 in model and torch.int64 in average"):
        moving_average(average, model, decay=0.5)


def test_zero_points_that_have_moved_are_refused():
    class Rounded(nn.Module):
        def __init__(self, zero_point):
            super().__init__()
            self.register_buffer("scale", torch.tensor(0.5))
            self.register_buffer("zero_point", torch.tensor(zero_point))

    moving_average(Rounded(3), Rounded(3), decay=0.5)
    with pytest.raises(ValueError, match=r"'zero_point' differs.*calibrate once"):
        moving_average(Rounded(3), Rounded(4), decay=0.5)


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match="decay must lie in"):
        moving_average(network(0), network(1), decay=decay)


# --- means ------------------------------------------------------------------------------------------------------------


def test_the_mean_is_the_weighted_sum_of_each_tensor():
    models, weights = [network(seed) for seed in range(3)], [0.5, 0.2, 0.3]
    found = average_models(models, weights).state_dict()
    for name, value in found.items():
        parts = [model.state_dict()[name] for model in models]
        if value.is_floating_point():
            expected = sum(weight * part.numpy() for weight, part in zip(weights, parts, strict=True))
            torch.testing.assert_close(value, torch.as_tensor(expected), rtol=1e-14, atol=1e-15)
        else:
            assert torch.equal(value, parts[0])


def test_the_plain_mean_is_that_of_torchs_averaged_model():
    models = [network(seed) for seed in range(4)]
    torchs = swa_utils.AveragedModel(models[0], use_buffers=True)
    for model in models:
        torchs.update_parameters(model)
    found = average_models(iter(models))
    for name, value in torchs.module.named_parameters():
        torch.testing.assert_close(found.get_parameter(name), value, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(found.norm1.running_var, torchs.module.norm1.running_var)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_of_equal_networks_is_the_network_bit_for_bit(dtype):
    model = network(0, dtype)
    assert same(state(average_models([copy.deepcopy(model) for _ in range(7)])), state(model))


def test_a_linear_networks_mean_computes_the_mean_of_the_outputs():
    models = [mlp((), seed=seed).double() for seed in range(3)]
    mean = sum(model(IMAGES.double()) for model in models) / 3
    torch.testing.assert_close(average_models(models)(IMAGES.double()), mean)


def test_the_mean_is_a_network_of_its_own_and_otherwise_the_first():
    models = [network(0).eval(), network(1).train()]
    models[0].conv1.weight.requires_grad_(False)
    models[0].norm2.train()
    models[0](IMAGES.double()).sum().backward()
    before = [state(model) for model in models]
    mean = average_models(models)
    assert all(same(state(model), old) for model, old in zip(models, before, strict=True))
    assert not any(shared_storage(mean, model) for model in models)
    assert [part.training for part in mean.modules()] == [part.training for part in models[0].modules()]
    assert [value.requires_grad for value in mean.parameters()] == [
        value.requires_grad for value in models[0].parameters()
    ]
    assert all(value.grad is None and value.is_leaf for value in mean.parameters())
    assert mean.conv2.weight.is_contiguous(memory_format=torch.channels_last)


def test_tied_weights_stay_tied():
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)).double()
        model[2].weight = model[0].weight
        models.append(model)
    mean = average_models(models)
    assert mean[2].weight is mean[0].weight
    torch.testing.assert_close(mean[0].weight, (models[0][0].weight + models[1][0].weight) / 2)
    models[1][2].weight = nn.Parameter(models[1][0].weight.detach().clone())
    with pytest.raises(ValueError, match="'2.weight' is .* tied to '0.weight' in models"):
        average_models(models)


def test_networks_with_one_mask_have_a_mean_and_with_two_are_refused():
    models = [network(seed) for seed in range(2)]
    masks = layer_magnitude_masks(models[0], 0.5)
    for model in models:
        apply_masks(model, masks)
    mean = average_models(models)
    for name, mask in masks.items():
        expected = (models[0].get_submodule(name).weight + models[1].get_submodule(name).weight) / 2
        torch.testing.assert_close(mean.get_submodule(name).weight, expected)
        assert torch.equal(masks_of(mean)[name], mask)
    apply_masks(models[1], layer_magnitude_masks(models[1], 0.3))
    with pytest.raises(ValueError, match=r"differ between models\[0\] and models\[1\].*remove_masks\(\)"):
        average_models(models)


def test_a_rounded_networks_stored_weights_are_averaged_and_then_rounded():
    plain = [network(seed) for seed in range(2)]
    rounded = average_models([fake_quantize_model(model, weight_bits=4) for model in plain])
    expected = fake_quantize_model(average_models(plain), weight_bits=4)
    images = IMAGES.double()
    torch.testing.assert_close(rounded.eval()(images), expected.eval()(images))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: conv_net((3, 5)).double(), r"'conv2' is a Conv2d.3, 5, .* in models.1. and a Conv2d.3, 4, "),
        (lambda: mlp((8,)).double(), "missing"),
        (lambda: network(0, torch.float32), "torch.float32 in models.1. and torch.float64 in models.0.: convert"),
        (lambda: nn.Sequential(network(0)), "missing"),
    ],
)
def test_other_architectures_and_dtypes_are_named_and_refused(other, words):
    with pytest.raises(ValueError, match=words):
        average_models([network(0), other()])


def test_a_moving_average_refuses_another_architecture_and_changes_nothing():
    average = network(0)
    before = state(average)
    with pytest.raises(ValueError, match="'conv2' is a Conv2d.* in model and a Conv2d.* in average"):
        moving_average(average, conv_net((3, 5)).double(), decay=0.5)
    assert same(state(average), before)


def test_settings_of_layers_must_agree_but_those_of_training():
    def model(stride=1, activation=nn.ReLU, dropout=0.1, momentum=0.1, eps=1e-5):
        parts = [nn.Conv2d(1, 2, 3, stride=stride), nn.BatchNorm2d(2, momentum=momentum, eps=eps)]
        return nn.Sequential(*parts, activation(), nn.Dropout(dropout))

    average_models([model(), model(dropout=0.5, momentum=None)])
    for other in (model(stride=2), model(activation=nn.Tanh), model(eps=1e-3)):
        with pytest.raises(ValueError, match="layer '[0-2]' is a .* one architecture"):
            average_models([model(), other])


def test_names_that_share_a_layer_without_tensors_are_as_good_as_two():
    relu = nn.ReLU()
    models = [nn.Sequential(relu, nn.Linear(2, 2), relu), nn.Sequential(nn.ReLU(), nn.Linear(2, 2), nn.ReLU())]
    torch.testing.assert_close(average_models(models)[1].weight, (models[0][1].weight + models[1][1].weight) / 2)


def test_what_a_layer_of_ones_own_prints_of_its_values_is_no_setting():
    class Shown(nn.Linear):
        def extra_repr(self):
            return str(self.bias.tolist())

    models = Shown(2, 2), Shown(2, 2)
    torch.testing.assert_close(average_models(models).bias, (models[0].bias + models[1].bias) / 2)


def test_complex_weights_have_a_mean_and_shared_buffers_must_agree():
    class Wave(nn.Module):
        def __init__(self, value, shared):
            super().__init__()
            self.phase = nn.Parameter(torch.tensor([value]))
            self.register_buffer("one", torch.ones(1))
            self.register_buffer("two", self.one if shared else torch.ones(1))

    assert average_models([Wave(1j, False), Wave(1 + 0j, False)]).phase.item() == 0.5 + 0.5j
    with pytest.raises(ValueError, match="'two' is .* tied to 'one' in models.1. and of shape .1,. in models.0."):
        average_models([Wave(1j, False), Wave(1j, True)])


def test_weights_may_add_up_to_one_in_float32():
    weights = torch.tensor([0.1, 1.1]).softmax(0)
    average_models([network(0), network(1)], weights.tolist())
    with pytest.raises(ValueError, match="add up to 1"):
        average_models([network(0), network(1)], [0.5, 0.5001])


def test_weights_that_are_computed_are_refused():
    models = [nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2))) for _ in range(2)]
    for call in (lambda: average_models(models), lambda: moving_average(*models, decay=0.5)):
        with pytest.raises(ValueError, match=r"weight '0' of .* is computed by WeightNorm.*bake\(\)"):
            call()


@pytest.mark.parametrize(
    ("weights", "words"),
    [([1.0], "2 models and 1 weights"), ([0.5, 0.6], "add up to 1, got 1.1"), ([1.5, -0.5], r"weights\[1\] must be")],
)
def test_wrong_weights_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        average_models([network(0), network(1)], weights)


def test_no_networks_and_what_is_no_network_are_refused():
    with pytest.raises(ValueError, match="models is empty"):
        average_models([])
    with pytest.raises(TypeError, match=r"models\[1\] must be an nn.Module, got OrderedDict"):
        average_models([network(0), network(1).state_dict()])


# --- statistics of batch norm -----------------------------------------------------------------------------------------


def by_hand(model, batches):
    """Mean and unbiased variance of each batch norm's inputs, layer after layer, in a loop over a plain Sequential."""
    found = {}
    for name, part in model.named_children():
        if isinstance(part, nn.BatchNorm2d):
            moved = [batch.movedim(1, 0).flatten(1) for batch in batches]
            found[name] = (
                torch.stack([one.mean(1) for one in moved]).mean(0),
                torch.stack([one.var(1, correction=1) for one in moved]).mean(0),
            )
            shape = (-1, 1, 1)
            batches = [
                (batch - one.mean(1).reshape(shape)) / (one.var(1, correction=0) + part.eps).sqrt().reshape(shape)
                * part.weight.reshape(shape) + part.bias.reshape(shape)
                for batch, one in zip(batches, moved, strict=True)
            ]  # fmt: skip
        else:
            batches = [part(batch) for batch in batches]
    return found


@pytest.mark.parametrize("sizes", [[24], [12, 12], [10, 10, 4]])
def test_statistics_are_those_of_a_loop_by_hand_and_of_torchs_update_bn(sizes):
    model, torchs, batches = network(0), network(0), IMAGES.double().split(sizes)
    expected = by_hand(model, batches)
    assert reset_batchnorm(model, batches) is model
    swa_utils.update_bn(batches, torchs)
    for name, (mean, variance) in expected.items():
        norm = model.get_submodule(name)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)
        assert norm.num_batches_tracked == len(sizes)
    for found, wanted in zip(model.buffers(), torchs.buffers(), strict=True):
        assert torch.equal(found, wanted)


def test_weights_momentum_and_modes_stay_and_no_gradient_is_kept():
    model = network(0).eval()
    model.norm1.momentum, model.norm2.momentum = 0.3, None
    model.norm1.train()
    weights, modes = {n: v.clone() for n, v in model.named_parameters()}, [part.training for part in model.modules()]
    reset_batchnorm(model, [IMAGES.double()])
    assert same(dict(model.named_parameters()), weights)
    assert (model.norm1.momentum, model.norm2.momentum) == (0.3, None)
    assert [part.training for part in model.modules()] == modes
    assert all(buffer.grad_fn is None for buffer in model.buffers())


def test_dropout_is_off():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3)).train()
    inputs = torch.rand(50, 3, generator=torch.Generator().manual_seed(1))
    reset_batchnorm(model, [inputs])
    torch.testing.assert_close(model[1].running_mean, inputs.mean(0))
    assert model[0].training


def test_several_inputs_and_inputs_by_name():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, first, second):
            return self.norm(first + second)

    first, second = torch.rand(5, 2), torch.rand(5, 2)
    for batch in ((first, second), {"second": second, "first": first}):
        torch.testing.assert_close(reset_batchnorm(Two(), [batch]).norm.running_mean, (first + second).mean(0))


def test_a_network_without_statistics_stays_as_it_is():
    for model in (mlp((4,)), nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))):
        before = state(model)
        assert reset_batchnorm(model, []) is model
        assert same(state(model), before)


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "batches is empty"),
        (IMAGES.double(), r"write \[images\]"),
        ([IMAGES.double(), torch.rand(1, 1, 2, 2).double()], r"one value per channel.*drop_last"),
        ([(IMAGES.double(), torch.arange(24))], "give the inputs alone"),
    ],
)
def test_what_cannot_be_estimated_is_refused_and_changes_nothing(batches, words):
    model = network(0).eval()
    model.norm1.momentum = 0.3
    before = state(model)
    with pytest.raises(ValueError, match=words):
        reset_batchnorm(model, batches)
    assert same(state(model), before)
    assert model.norm1.momentum == 0.3
    assert not any(part.training for part in model.modules())


def test_a_batch_norm_that_does_not_run_is_refused():
    model = network(0)
    model.norm1.register_module("spare", nn.BatchNorm1d(2).double())
    before = state(model)
    with pytest.raises(ValueError, match="'norm1.spare' did not run"):
        reset_batchnorm(model, [IMAGES.double()])
    assert same(state(model), before)


def test_a_layer_without_values_and_errors_of_the_network_itself():
    with pytest.raises(ValueError, match="run a batch through the model first"):
        reset_batchnorm(nn.Sequential(nn.LazyBatchNorm1d()), [torch.rand(4, 3)])

    class Failing(nn.BatchNorm1d):
        def forward(self, inputs):
            raise self.error

    model = Failing(3)
    for error, batch in ((ValueError("its own"), (torch.rand(4, 3),)), (TypeError("its own"), torch.rand(4, 3))):
        model.error = error
        with pytest.raises(type(error), match="^its own$"):
            reset_batchnorm(model, [batch])


def test_no_gradient_is_recorded_while_statistics_are_estimated():
    model, seen = network(0), []
    model.relu1.register_forward_hook(lambda part, inputs, output: seen.append(output.requires_grad))
    reset_batchnorm(model, [IMAGES.double()])
    assert seen == [False]
