"""Networks cut into stages: every family of torchvision and a wide sample of timm's, against the libraries' own forward."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tlrun.batch import Encoded
from tlrun.models.cut import WHOLE, UncuttableError, cut
from tlrun.models.library import last_layer
from tlrun.models.torchvision import AUXILIARY, build, models
from tlrun.models.vision import import_torchvision

SMALLEST = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11_bn": 32,
    "vit_b_32": 32,
    "wide_resnet50_2": 32,
}
"""One network of each family of torchvision, and a small image that it takes."""

TIMM = (
    "botnet26t_256",
    "caformer_s18",
    "cait_xxs24_224",
    "convnext_atto",
    "convnextv2_atto",
    "crossvit_9_240",
    "cspdarknet53",
    "deit_tiny_distilled_patch16_224",
    "densenet121",
    "dla34",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientnet_b0",
    "efficientnet_lite0",
    "eva02_tiny_patch14_224",
    "fastvit_t8",
    "ghostnet_050",
    "hrnet_w18_small",
    "inception_next_atto",
    "levit_128s",
    "lcnet_050",
    "maxvit_rmlp_pico_rw_256",
    "mixer_s32_224",
    "mobilenetv3_small_100",
    "mobileone_s0",
    "mobilevit_xxs",
    "pit_ti_224",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnety_002",
    "repvgg_a0",
    "resmlp_12_224",
    "resnet18",
    "resnetv2_18",
    "seresnet18",
    "swin_tiny_patch4_window7_224",
    "tf_efficientnet_lite0",
    "tiny_vit_5m_224",
    "vit_tiny_patch16_224",
    "xception41",
    "xcit_nano_12_p16_224",
)
"""Networks of timm, one of each of its larger families."""

NOT_CUT = {"crossvit_9_240", "ghostnet_050", "hrnet_w18_small"}
"""Those of TIMM whose forward cannot be followed: two streams, a branch on values, a list that is written to."""


def holds_everything_once(made, whole):
    """Whether the stages have the original's parameters and buffers, each once, under names that go both ways."""
    names = [f"stages.{name}" for name in nn.ModuleDict(made.stages).state_dict()]
    own = made.names.own(whole.state_dict())
    parameters = sum(1 for stage in made.stages.values() for _ in stage.parameters())
    original = {name.split(".", 2)[2] for name in names}
    return (
        set(names) == set(own)
        and len(set(names)) == len(names)
        and original == whole.state_dict().keys()
        and parameters == sum(1 for _ in whole.parameters())
    )


def runs_as(made, network, x):
    """Whether the stages, one after the other, give the very bits of the network."""
    with torch.inference_mode():
        expected, found = network.eval()(x), x
        for stage in made.stages.values():
            assert isinstance(found, torch.Tensor)
            found = stage.eval()(found)
    return torch.equal(found, expected) and found.shape == (len(x), made.out_features)


@pytest.mark.slow
@pytest.mark.parametrize("arch", SMALLEST)
def test_the_stages_of_each_family_of_torchvision_run_as_the_network(arch):
    size = SMALLEST[arch]
    network = build(arch, (3, size, size))
    network.set_submodule(last_layer(network), nn.Identity())
    made = cut(network, (3, size, size), classifier=None)
    assert WHOLE not in made.stages
    assert 4 <= len(made.stages) <= 24
    assert next(iter(made.stages)) == "stem"
    assert holds_everything_once(made, network)
    assert runs_as(made, network, torch.randn(2, 3, size, size))


@pytest.fixture(scope="module")
def timm():
    import_torchvision()
    return pytest.importorskip("timm", reason="needs the extra timm")


@pytest.mark.slow
@pytest.mark.parametrize("arch", TIMM)
def test_the_stages_of_networks_of_timm_run_as_the_network(timm, arch):
    network = timm.create_model(arch)
    network.reset_classifier(0)
    size = network.pretrained_cfg["input_size"][-1] if network.pretrained_cfg["fixed_input_size"] else 64
    made = cut(network, (3, size, size), classifier=None)
    assert (list(made.stages) == [WHOLE]) == (arch in NOT_CUT)
    assert holds_everything_once(made, network)
    assert runs_as(made, network, torch.randn(2, 3, size, size))


class Small(nn.Module):
    """Blocks between plain layers, a parameter of its own used twice, and a constant that every block takes."""

    def __init__(self, *, tied: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()) for _ in range(4)))
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("table", torch.ones(1), persistent=False)
        self.tied = tied

    def forward(self, x, mask=None):
        x = self.bn1(self.conv1(x))
        for number, block in enumerate(self.blocks):
            x = block(x) + self.table
            if mask is not None:
                x = x * mask
            if number in (1, 2) and self.tied:
                x = x * self.scale
        return x.mean((2, 3))


def test_plain_layers_at_the_bottom_are_the_stem_and_each_block_a_stage():
    made = cut(Small(), (3, 8, 8), classifier=None)
    assert list(made.stages) == ["stem", "blocks_0", "blocks_1", "blocks_2", "blocks_3"]
    assert made.names.places["bn1"] == "stem"
    assert made.out_features == 4


def test_a_parameter_that_is_used_twice_is_in_one_stage_with_all_between():
    network = Small(tied=True)
    made = cut(network, (3, 8, 8), classifier=None)
    assert list(made.stages) == ["stem", "blocks_0", "blocks_1", "blocks_2", "blocks_3"]
    assert made.names.places["scale"] == made.names.places["blocks.2"] == "blocks_2"
    assert holds_everything_once(made, network)
    assert runs_as(made, network, torch.randn(2, 3, 8, 8))


def test_a_constant_that_blocks_share_is_no_hindrance_and_no_parameter():
    made = cut(Small(), (3, 8, 8), classifier=None)
    assert not any("table" in name for name in nn.ModuleDict(made.stages).state_dict())


def test_a_forward_that_asks_for_values_leaves_one_stage():
    class Asking(Small):
        def forward(self, x):
            return super().forward(x if x.shape[0] < 99 and x.mean() is not None and bool(x.shape[0] > 0) else -x)

    network = Asking()
    made = cut(network, (3, 8, 8), classifier=None)
    assert made.stages == {WHOLE: network}
    assert runs_as(made, network, torch.randn(2, 3, 8, 8))
    assert holds_everything_once(made, network)


def test_a_forward_that_is_another_in_training_leaves_one_stage():
    class Moody(Small):
        def forward(self, x):
            return super().forward(x + 1 if self.training else x)

    network = Moody().eval()
    assert list(cut(network, (3, 8, 8), classifier=None).stages) == [WHOLE]
    assert not network.training


def test_stages_can_be_copied_and_learn_apart():
    made = cut(Small(), (3, 8, 8), classifier=None)
    stages = nn.ModuleDict(made.stages)
    twin = copy.deepcopy(stages)
    with torch.no_grad():
        twin["stem"].conv1.weight.add_(1)
    assert not torch.equal(twin["stem"].conv1.weight, stages["stem"].conv1.weight)


def test_stages_follow_training_and_evaluation():
    network = Small()
    made = cut(network, (3, 8, 8), classifier=None)
    made.stages["stem"].train()
    before = network.bn1.running_mean.clone()
    made.stages["stem"](torch.randn(8, 3, 8, 8) + 5)
    assert not torch.equal(network.bn1.running_mean, before)
    made.stages["stem"].eval()
    assert not network.bn1.training


def test_images_that_the_network_does_not_take_are_refused():
    with pytest.raises(UncuttableError, match="hannel"):
        cut(Small(), (1, 8, 8), classifier=None)


def test_names_of_another_network_are_not_known_and_those_of_more_are_kept_apart():
    names = cut(Small(), (3, 8, 8), classifier="fc", left_out=("aux",)).names
    one = torch.zeros(1)
    assert names.own({"layer1.0.weight": one}) == {}
    found = names.own({"bn1.bias": one, "fc.weight": one, "aux.fc.weight": one, "blocks.7.0.weight": one})
    assert list(found) == ["stages.stem.bn1.bias", "head.out.weight", "stages.blocks.7.0.weight"]


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small"])
def test_rows_encoded_up_to_any_stage_of_a_library_network_go_on_to_the_same_bits(make, arch):
    model = make("torchvision", (3, 32, 32), arch=arch)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        whole = model(x)
        for stage in range(1, len(model.stage_names)):
            encoded = model.encode_prefix(x, stage)
            assert torch.equal(model(Encoded(encoded.x.contiguous(), stage)).logits, whole.logits), stage


def test_second_classifiers_of_published_files_are_left_out(make):
    model = make("torchvision", (3, 32, 32), arch="googlenet")
    published = models().get_model("googlenet", weights=None, init_weights=False).state_dict()
    assert any(name.startswith(AUXILIARY) for name in published)
    own = model.backbone.own_names(published)
    expected = {f"stages.{name}" for name in model.backbone.stages.state_dict()} | {"head.out.weight", "head.out.bias"}
    assert own.keys() == expected
