"""Token merging: which tokens go, what they become, and that batches answer as their examples do."""

import pytest
import torch
from torch.nn import functional

from efflab.foundation.errors import RequestError
from efflab.model_surgery.adaptive.token_merging import MergingRow, attend, match, merge
from efflab.models.resnet_cifar import resnet_cifar
from efflab.models.vision_transformer import vision_transformer
from efflab.profiling.work_module import count_module
from efflab.tasks.digits_clutter import DigitsClutter
from efflab.techniques.merge_tokens import MergeTokens, merge_tokens

IMAGES = torch.from_numpy(DigitsClutter(**DigitsClutter.tiny).split("validation").inputs[0][:16].copy())
# the first token's key is near the fourth's, the third's is the second's
KEYS = torch.tensor([[[1.0, 0.2], [0.0, 1.0], [0.0, 2.0], [1.0, 0.0]]])


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def net(**sizes):
    torch.manual_seed(0)
    return vision_transformer(**{"width": 16, "depth": 3, "channels": 1, **sizes}).eval()


def outputs(module, x=IMAGES):
    with torch.no_grad():
        return module(x)


def test_four_tokens_by_hand():
    assert match(KEYS, None, ratio=0.25).tolist() == [[0, 1, 1, 3]]  # one may go: the third, whose cosine is 1
    assert match(KEYS, None, ratio=0.5).tolist() == [[3, 1, 1, 3]]
    x = torch.tensor([[[1.0], [2.0], [5.0], [7.0]]])
    size = torch.tensor([[1.0, 2.0, 1.0, 1.0]])
    found, sizes, now = merge(x, size, torch.tensor([[0, 1, 1, 3]]), 3)
    assert found.tolist() == [[[1.0], [3.0], [7.0]]]  # (2 x 2 + 5) / 3
    assert sizes.tolist() == [[1.0, 3.0, 1.0]]
    assert now.tolist() == [[0, 1, 1, 2]]
    found, sizes, now = merge(found, sizes, torch.tensor([[0, 1, 1]]), 2)
    assert found.tolist() == [[[1.0], [4.0]]]
    assert sizes.tolist() == [[1.0, 4.0]]


def test_pairs_that_are_not_alike_enough_stay():
    # the first's cosine with the fourth is 1 / sqrt(1.04) = 0.981
    assert match(KEYS, None, ratio=0.5, similarity=0.99).tolist() == [[0, 1, 1, 3]]
    assert match(KEYS, None, ratio=0.5, similarity=0.98).tolist() == [[3, 1, 1, 3]]


def test_a_share_of_a_batch_is_of_the_tokens_that_an_example_has():
    size = torch.tensor([[1.0, 1.0, 2.0, 0.0]])  # three tokens and an empty place; 0.5 of three is one
    assert match(KEYS, size, ratio=0.5, similarity=0.0).tolist() == [[0, 1, 1, 3]]


def test_merging_keeps_the_mean_weighted_by_size():
    generator = torch.Generator().manual_seed(0)
    x, keys = torch.randn(3, 11, 5, generator=generator), torch.randn(3, 11, 4, generator=generator)
    size = torch.randint(1, 5, (3, 11), generator=generator).float()
    found, sizes, now = merge(x, size, match(keys, size, 0.4), 11 - 4)
    assert found.shape == (3, 7, 5)
    assert sizes.sum(1).tolist() == size.sum(1).tolist()
    torch.testing.assert_close((found * sizes[..., None]).sum(1), (x * size[..., None]).sum(1))
    assert int(now.max()) == 6


def test_a_token_of_size_two_is_attended_to_as_two_tokens():
    block = net().blocks[0]
    tokens = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(1))
    twice = torch.cat([tokens, tokens[:, :1]], dim=1)
    with torch.no_grad():
        wanted, _ = attend(block, twice, None)
        found, _ = attend(block, tokens, torch.tensor([[2.0, 1.0, 1.0]]))
    torch.testing.assert_close(found, wanted[:, :3])


def test_nothing_merged_is_the_plain_net_and_the_mean_over_places_weighs_by_size():
    plain, merging = net(), net()
    merging.blocks = MergingRow(merging.blocks, 0.0)
    torch.testing.assert_close(outputs(merging), outputs(plain))
    merging.blocks.ratio = 0.25
    seen = []
    merging.norm.register_forward_pre_hook(lambda _norm, given: seen.append(given[0]))
    outputs(merging)
    assert seen[0].shape[1] == 36  # every token stands again at its places
    _, counts = torch.unique(seen[0][0], dim=0, return_counts=True)
    assert len(counts) == 36 - 9 - 6 - 5
    assert int(counts.sum()) == 36


def test_macs_by_hand():
    module = net(width=8, depth=1, heads=2)
    plain = count_module(module, (IMAGES[:1],))["macs"]
    merge_tokens(module, 0.25)
    # nine tokens less in the perceptron of 2 x 8 x 32; 18 x 18 pairs of keys of size 4
    assert count_module(module, (IMAGES[:1],))["macs"] == plain - 9 * 2 * 8 * 32 + 18 * 18 * 4


@pytest.mark.parametrize("similarity", [-1.0, 0.5, 0.9])
def test_a_batch_answers_as_its_examples_one_by_one(similarity):
    module = net(depth=4)
    merge_tokens(module, 0.4, similarity)
    alone = torch.cat([outputs(module, IMAGES[index : index + 1]) for index in range(len(IMAGES))])
    torch.testing.assert_close(outputs(module), alone, rtol=1e-4, atol=1e-5)


def test_by_similarity_examples_cost_unlike_and_a_batch_keeps_as_many_places_as_its_dearest():
    module = net(depth=2)
    merge_tokens(module, 0.5, 0.5)
    places = []
    module.blocks[1].mlp.register_forward_pre_hook(lambda _layer, given: places.append(given[0].shape[1]))
    for index in range(len(IMAGES)):
        outputs(module, IMAGES[index : index + 1])
    alone = list(places)
    assert len(set(alone)) > 1
    outputs(module)
    assert places[-1] == max(alone)


def test_training_by_similarity_computes_what_evaluation_does():
    module = net()
    merge_tokens(module, 0.4, 0.6)
    wanted = outputs(module)
    module.train()
    found = module(IMAGES)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    functional.cross_entropy(found, torch.zeros(16, dtype=torch.long)).backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


def test_16_bit_tokens_merge_and_stay_16_bit():
    module = net()
    merge_tokens(module, 0.25)
    wanted, found = outputs(module), outputs(module.to(torch.bfloat16), IMAGES.to(torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert float((found.float() - wanted).abs().max()) < 0.2


def test_what_has_no_blocks_or_too_few_tokens_is_refused(tmp_path):
    with pytest.raises(RequestError, match="merge_tokens: the model has no row"):
        merge_tokens(resnet_cifar(4, 1, 1))
    task = DigitsClutter(**DigitsClutter.tiny)

    class Given:
        pass

    context = Given()
    context.task = task
    with pytest.raises(RequestError, match="4 tokens are too few to merge any at ratio 0.1"):
        MergeTokens(ratio=0.1).apply(net(patch=12), context)
