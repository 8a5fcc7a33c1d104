"""Packed rows: who sees whom, where every token stands, and that nothing is lost when groups are split."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medr1.models.shared.pack import (
    PromptTensors,
    joined,
    left_padded,
    pack_flat,
    pack_groups,
    plan_rows,
    visible_pairs,
)

PAD = 0


def prompt_of(length: int, first: int = 100) -> PromptTensors:
    ids = torch.arange(first, first + length)
    return PromptTensors(ids, torch.arange(length).repeat(3, 1), torch.zeros(length, dtype=torch.long), None, None)


def test_mask_by_hand() -> None:
    # prompt, prompt, completion 1, completion 1, completion 2, padding, padding
    seen = visible_pairs(torch.tensor([[0, 0, 1, 1, 2, -1, -1]]))[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
    ]


def test_plan_by_hand() -> None:
    # The prompts take 4 and 2 places; completions 0, 2 and 3 belong to the first one.
    index, lengths = torch.tensor([0, 1, 0, 0]), [3, 1, 3, 2]
    assert plan_rows([5, 3], index, lengths, None) == [(0, [0, 2, 3]), (1, [1])]
    assert plan_rows([5, 3], index, lengths, 10) == [(0, [0, 2]), (0, [3]), (1, [1])], "a row may be as wide as allowed"
    assert plan_rows([5, 3], index, lengths, 9) == [(0, [0]), (0, [2, 3]), (1, [1])]
    assert plan_rows([5, 3], index, lengths, 1) == [(0, [0]), (0, [2]), (0, [3]), (1, [1])]


def test_image_tokens_keep_their_mark_in_rows_and_prefills() -> None:
    marks = [torch.tensor([0, 1, 1, 0]), torch.tensor([1, 0])]
    prompts = [replace(prompt_of(len(mark)), mm_token_type_ids_L=mark) for mark in marks]
    ids = torch.tensor([[7, 8], [5, 6]])
    packed = pack_groups(prompts, torch.tensor([0, 1]), ids, torch.ones_like(ids), pad_token_id=PAD)
    assert packed.inputs["mm_token_type_ids"].tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert left_padded(prompts, PAD)["mm_token_type_ids"].tolist() == [[0, 1, 1, 0], [0, 0, 1, 0]]


def test_row_by_hand() -> None:
    prompt = prompt_of(3)  # tokens 100, 101, 102 at positions 0, 1, 2
    completions = torch.tensor([[7, 8, 9], [5, 6, PAD]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    packed = pack_groups([prompt], torch.tensor([0, 0]), completions, mask, pad_token_id=PAD)
    assert packed.inputs["input_ids"].tolist() == [[100, 101, 102, 7, 8, 102, 5]]
    assert packed.inputs["shift_labels"].tolist() == [[7, 8, 9, 5, 6]]
    assert packed.inputs["position_ids"][0].tolist() == [[0, 1, 2, 3, 4, 2, 3]]
    places = torch.arange(7.0)[None]  # what the model says at each place of the row
    norm = nn.Identity()
    model: Any = SimpleNamespace(model=SimpleNamespace(language_model=SimpleNamespace(norm=norm)))
    with packed.head_on_completions(model):
        scored = norm(places[..., None])[..., 0]
    assert packed.unpack(scored).tolist() == [[2, 3, 4], [5, 6, 0]]
    assert norm(places) is places


def test_flat_row_by_hand() -> None:
    prompts = [prompt_of(3), prompt_of(2, first=200)]
    completions = torch.tensor([[7, 8, 9], [4, PAD, PAD], [5, 6, PAD]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    packed = pack_flat(prompts, torch.tensor([0, 1, 0]), completions, mask)
    assert packed.inputs["input_ids"].tolist() == [[100, 101, 200, 102, 7, 8, 102, 5, 201]]
    assert packed.inputs["position_ids"][1].tolist() == [[0, 1, 0, 2, 3, 4, 2, 3, 1]]
    assert packed.inputs["shift_labels"].tolist() == [[7, 8, 9, 4, 5, 6]]
    assert packed.slot_NC[packed.present_NC].tolist() == [3, 4, 5, 8, 6, 7]
    packing = packed.inputs["shared_prefix"].packing
    assert packing.prompts.seen.ends.tolist() == [0, 2, 3]
    assert packing.within.seen.ends.tolist() == [0, 3, 5, 6]
    assert packing.before.asking.ends.tolist() == [0, 5, 6]
    assert packing.before.seen is packing.prompts.seen
    assert [span.causal for span in (packing.prompts, packing.within, packing.before)] == [True, True, False]
    assert [span.asking.longest for span in (packing.prompts, packing.within, packing.before)] == [2, 3, 5]


@given(
    prompt_lengths=st.lists(st.integers(2, 9), min_size=1, max_size=4),
    lengths=st.lists(st.integers(0, 8), min_size=1, max_size=12),
    width=st.one_of(st.none(), st.integers(4, 30)),
    data=st.data(),
)
def test_every_completion_stands_in_one_row_of_its_group(
    prompt_lengths: list[int], lengths: list[int], width: int | None, data: st.DataObject
) -> None:
    groups = [data.draw(st.integers(0, len(prompt_lengths) - 1)) for _ in lengths]
    rows = plan_rows(prompt_lengths, torch.tensor(groups), lengths, width)
    assert sorted(n for _, members in rows for n in members) == list(range(len(lengths)))
    for group, members in rows:
        assert all(groups[n] == group for n in members)
        used = prompt_lengths[group] - 1 + sum(lengths[n] for n in members)
        assert width is None or used <= width or len(members) == 1


@given(
    lengths=st.lists(st.integers(0, 5), min_size=2, max_size=7),
    width=st.one_of(st.none(), st.integers(6, 20)),
    seed=st.integers(0, 1000),
    flat=st.booleans(),
)
def test_every_token_finds_its_score(lengths: list[int], width: int | None, seed: int, flat: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    prompts = [prompt_of(3), prompt_of(6, first=200)]
    index = torch.randint(2, (len(lengths),), generator=generator)
    mask = torch.tensor([[column < length for column in range(5)] for length in lengths]).long()
    ids = torch.randint(1, 99, mask.shape, generator=generator) * mask
    if not mask.any():
        return
    groups, local = index.unique(return_inverse=True)
    some = [prompts[g] for g in groups.tolist()]
    if flat:
        packed = pack_flat(some, local, ids, mask)
    else:
        packed = pack_groups(some, local, ids, mask, pad_token_id=PAD, max_row_tokens=width)
    # Scores that are the labels themselves come back as the completions.
    assert packed.unpack(packed.inputs["shift_labels"]).tolist() == ids.tolist()
    before = packed.unpack(packed.inputs["input_ids"].flatten()[None, packed.slot_NC[packed.present_NC]])
    for n, length in enumerate(lengths):
        expected = [prompts[index[n]].input_ids_L[-1].item(), *ids[n, : max(length - 1, 0)].tolist()][:length]
        assert before[n, :length].tolist() == expected


def test_neighbouring_slices_are_joined_without_a_copy() -> None:
    whole = torch.arange(24.0).view(8, 3)
    first, second, third = whole.split([2, 1, 5])
    assert joined([first, second, third]).data_ptr() == whole.data_ptr()
    assert torch.equal(joined([first, second, third]), whole)
    assert torch.equal(joined([second, third]), whole[2:])
    apart = [[third, first], [first, third], [first, second.clone()], [first.clone(), second], [first, first]]
    for parts in apart:
        assert torch.equal(joined(parts), torch.cat(parts))
    columns = whole.t()  # not contiguous
    assert torch.equal(joined([columns[:1], columns[1:]]), columns)
    moved = first.clone().requires_grad_()
    joined([moved[:1], moved[1:]]).sum().backward()
    assert moved.grad is not None
    assert torch.equal(moved.grad, torch.ones_like(first))
