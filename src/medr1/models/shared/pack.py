"""Groups that share a prompt: a GRPO group is one prompt and one image, so they are computed once.

Sampling prefills each prompt once and expands the key-value cache. Training sends one ordinary forward through the
model, a *packed row* per prompt:

    prompt[:-1] | last prompt token, completion_1[:-1] | last prompt token, completion_2[:-1] | …

Every completion sees the prompt and itself, never its neighbours, and counts its positions from the end of the prompt
(explicit M-RoPE positions). The logits at a completion's places are those of an ordinary forward over prompt
and completion; gradients of the prompt are summed by backpropagation. There is no cache in the graph, so gradient
checkpointing and TRL's fused head work as they are.

Axes: P prompts, N completions, L prompt tokens, C completion tokens, R packed rows, S tokens of a packed row,
A the three axes of M-RoPE.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from medr1.models.literal import token_ids
from medr1.models.shared.attention import NO_MASK, SHARED_PREFIX, FlatAttention, PackedAttention
from medr1.models.shared.flash import Packing


@dataclass(frozen=True, slots=True)
class PromptTensors:
    """One prompt, without padding, as the model takes it."""

    input_ids_L: Tensor
    """Token ids with the image placeholders already expanded."""
    position_ids_AL: Tensor
    mm_token_type_ids_L: Tensor
    """1 at image tokens, 0 elsewhere."""
    pixel_values: Tensor | None
    """Patches of all images of the prompt, in order."""
    image_grid_thw: Tensor | None
    """Temporal, vertical and horizontal number of patches of each image."""

    @property
    def next_position(self) -> int:
        """M-RoPE position of the first completion token."""
        return int(self.position_ids_AL.max()) + 1

    def followed_by(self, token_ids: Sequence[int]) -> "PromptTensors":
        """The prompt with text tokens behind it, as if the completion had begun with them."""
        added_T = self.input_ids_L.new_tensor(list(token_ids))
        after_T = self.next_position + torch.arange(len(added_T), device=added_T.device)
        return PromptTensors(
            torch.cat([self.input_ids_L, added_T]),
            torch.cat([self.position_ids_AL, after_T.expand(3, -1)], dim=1),
            torch.cat([self.mm_token_type_ids_L, torch.zeros_like(added_T)]),
            self.pixel_values,
            self.image_grid_thw,
        )

    def to(self, device: torch.device | str) -> "PromptTensors":
        """The same prompt on another device."""
        move = [None if t is None else t.to(device) for t in (self.pixel_values, self.image_grid_thw)]
        return PromptTensors(
            self.input_ids_L.to(device), self.position_ids_AL.to(device), self.mm_token_type_ids_L.to(device), *move
        )


def backbone(model: nn.Module) -> Any:
    """The Qwen-VL model without its language head, under whatever PEFT has wrapped around it."""
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()  # type: ignore[operator]
    return model.model


def encode_prompts(
    processor: Any, model: nn.Module, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]
) -> list[PromptTensors]:
    """Tokens, pixels and M-RoPE positions of prompts, each computed once.

    Args:
        processor: the checkpoint's own processor.
        model: used for its rule of positions only; no forward is run.
        texts: prompts after the chat template, one image placeholder per image, with marks where `medr1.models.literal`
            has put them.
        images: the images of every prompt, in the order of their placeholders; empty for a text-only prompt.

    Raises:
        ValueError: the processor refuses a picture, or a text has not as many places as there are pictures.
    """
    ids, pixels = tokenized(processor, texts, images)
    ids_P = [torch.tensor(row) for row in ids]
    grids = pixels.get("image_grid_thw")
    grids_P: Sequence[Tensor | None] = [None] * len(images)
    patches_P: Sequence[Tensor | None] = grids_P
    if grids is not None:
        split = torch.split(grids, [len(prompt_images) for prompt_images in images])
        patches = torch.split(pixels["pixel_values"], [int(grid.prod(-1).sum()) for grid in split])
        grids_P = [grid if len(grid) else None for grid in split]
        patches_P = [rows if len(rows) else None for rows in patches]
    ids_PL = pad_sequence(ids_P, batch_first=True, padding_value=processor.tokenizer.pad_token_id, padding_side="left")
    mask_PL = pad_sequence([torch.ones_like(row) for row in ids_P], batch_first=True, padding_side="left")
    types_P = [(row == processor.image_token_id).long() for row in ids_P]
    types_PL = pad_sequence(types_P, batch_first=True, padding_side="left")
    positions_APL, _ = backbone(model).get_rope_index(
        ids_PL, mm_token_type_ids=types_PL, image_grid_thw=grids, attention_mask=mask_PL
    )
    return [
        PromptTensors(ids_L, positions_APL[:, row, -len(ids_L) :], types_P[row], patches_P[row], grids_P[row])
        for row, ids_L in enumerate(ids_P)
    ]


def tokenized(
    processor: Any, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]
) -> tuple[list[list[int]], dict[str, Tensor]]:
    """Ids of every prompt, as many placeholders in it as its pictures have tokens, and the patches of all pictures.

    Arguments and errors as of `encode_prompts`; there are no patches where there is no picture.
    """
    flat = [image for prompt_images in images for image in prompt_images]
    pixels = dict(processor.image_processor(images=flat, return_tensors="pt")) if flat else {}
    merged = processor.image_processor.merge_size**2
    counts = iter((pixels["image_grid_thw"].prod(-1) // merged).tolist() if flat else ())
    ids = [
        expanded(token_ids(processor.tokenizer, text), processor.image_token_id, [next(counts) for _ in own])
        for text, own in zip(texts, images, strict=True)
    ]
    return ids, pixels


def expanded(ids: Sequence[int], image_token_id: int, counts: Sequence[int]) -> list[int]:
    """A prompt with as many placeholders as each picture has tokens.

    >>> expanded([5, 9, 6, 9, 7], image_token_id=9, counts=[3, 2])
    [5, 9, 9, 9, 6, 9, 9, 7]
    """
    places = ids.count(image_token_id)
    if places != len(counts):
        raise ValueError(f"the prompt has {places} places for {len(counts)} pictures")
    numbers = iter(counts)
    return [token for one in ids for token in ([one] * next(numbers) if one == image_token_id else [one])]


def image_inputs(prompts: Sequence[PromptTensors]) -> dict[str, Tensor]:
    """Pixel inputs of several prompts together; empty when none has an image."""
    with_images = [prompt for prompt in prompts if prompt.pixel_values is not None]
    if not with_images:
        return {}
    return {
        "pixel_values": joined([prompt.pixel_values for prompt in with_images]),  # type: ignore[misc]
        "image_grid_thw": torch.cat([prompt.image_grid_thw for prompt in with_images]),  # type: ignore[misc]
    }


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts; not copied where they are neighbouring slices of one tensor, as a processor makes them."""
    first = parts[0]
    storage, offset = first.untyped_storage().data_ptr(), first.storage_offset()
    for part in parts:
        here = (part.untyped_storage().data_ptr(), part.storage_offset()) == (storage, offset)
        if not (here and part.is_contiguous() and not part.requires_grad):
            return torch.cat(list(parts))
        offset += part.numel()
    return first.as_strided((sum(map(len, parts)), *first.shape[1:]), first.stride())


def left_padded(prompts: Sequence[PromptTensors], pad_token_id: int) -> dict[str, Tensor]:
    """Model inputs for a prefill: prompts padded on the left, so that all of them end in the same column."""

    def pad(rows: list[Tensor], value: int) -> Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value, padding_side="left")

    ids = [prompt.input_ids_L for prompt in prompts]
    positions = [pad([prompt.position_ids_AL[axis] for prompt in prompts], 0) for axis in range(3)]
    return {
        "input_ids": pad(ids, pad_token_id),
        "attention_mask": pad([torch.ones_like(row) for row in ids], 0),
        "position_ids": torch.stack(positions),
        "mm_token_type_ids": pad([prompt.mm_token_type_ids_L for prompt in prompts], 0),
        **image_inputs(prompts),
    }


@dataclass(frozen=True, slots=True)
class PackedGroups:
    """Model inputs of packed rows, and where the tokens of each completion are in them.

    Labels and scores are those of the completions' tokens alone, one after the other (M of them), for a model in
    `head_on_completions`.
    """

    inputs: dict[str, Any]
    slot_NC: Tensor
    """Place of every completion token among all R * S; of no meaning where a completion is shorter than C."""
    present_NC: Tensor
    """True where a completion has a token."""

    @contextmanager
    def head_on_completions(self, model: nn.Module) -> Iterator[None]:
        """Inside, the model's last norm and head leave out what is not scored: prompts and padding."""
        slot_M = self.slot_NC[self.present_NC]

        def scored(_: nn.Module, states: tuple[Tensor]) -> Tensor:
            return states[0].flatten(0, 1).index_select(0, slot_M)[None]

        handle = backbone(model).language_model.norm.register_forward_pre_hook(scored)
        try:
            yield
        finally:
            handle.remove()

    def unpack(self, values_1M: Tensor) -> Tensor:
        """Per-token values as `values_NC`, zero where a completion has no token."""
        return values_1M.new_zeros(self.present_NC.shape).masked_scatter(self.present_NC, values_1M)


def plan_rows(
    prompt_lengths: Sequence[int], group_index_N: Tensor, lengths: Sequence[int], max_row_tokens: int | None
) -> list[tuple[int, list[int]]]:
    """Which completions stand in which row: (group, its completions), each row at most `max_row_tokens` wide.

    A single completion that is longer still gets its row.
    """
    rows: list[tuple[int, list[int]]] = []
    for group, prompt_length in enumerate(prompt_lengths):
        shared = prompt_length - 1
        members: list[int] = []
        used = shared
        for n in (group_index_N == group).nonzero()[:, 0].tolist():
            if members and max_row_tokens is not None and used + lengths[n] > max_row_tokens:
                rows.append((group, members))
                members, used = [], shared
            members.append(n)
            used += lengths[n]
        if members:
            rows.append((group, members))
    return rows


def pack_groups(
    prompts: Sequence[PromptTensors],
    group_index_N: Tensor,
    completion_ids_NC: Tensor,
    completion_mask_NC: Tensor,
    *,
    pad_token_id: int,
    max_row_tokens: int | None = None,
    additive_mask: torch.dtype | None = None,
) -> PackedGroups:
    """Put every group into one row, or into several rows of the same prompt where it would be too long.

    Args:
        prompts: the P prompts.
        group_index_N: which prompt each completion belongs to; groups are never found by comparing contents.
        completion_ids_NC: completions padded on the right.
        completion_mask_NC: 1 at the tokens of a completion.
        max_row_tokens: bound on S; None: no bound.
        additive_mask: None for a model whose text layers have the attention `shared_prefix`; for eager attention the
            dtype of the mask that is added.
    """
    device = completion_ids_NC.device
    lengths = completion_mask_NC.sum(1).tolist()
    rows = plan_rows([len(prompt.input_ids_L) for prompt in prompts], group_index_N, lengths, max_row_tokens)
    column_NC = torch.zeros_like(completion_ids_NC)
    row_N = torch.zeros(len(lengths), dtype=torch.long, device=device)
    ids, segments, positions, types = [], [], [], []
    for row, (group, members) in enumerate(rows):
        prompt = prompts[group]
        shared = len(prompt.input_ids_L) - 1
        ends = [shared]
        for n in members:
            column_NC[n, : lengths[n]] = torch.arange(ends[-1], ends[-1] + lengths[n], device=device)
            row_N[n] = row
            ends.append(ends[-1] + lengths[n])
        parts = [completion_ids_NC[n, : lengths[n]] for n in members]
        shared_ids, last = prompt.input_ids_L[:-1], prompt.input_ids_L[-1:]
        ids.append(torch.cat([shared_ids, *(torch.cat([last, part[:-1]])[: len(part)] for part in parts)]))
        sizes = torch.tensor([shared, *map(len, parts)], device=device)
        segments.append(torch.arange(len(sizes), device=device).repeat_interleave(sizes))
        after = [prompt.position_ids_AL[:, -1:] + torch.arange(len(part), device=device) for part in parts]
        positions.append(torch.cat([prompt.position_ids_AL[:, :-1], *after], dim=1))
        types.append(torch.cat([prompt.mm_token_type_ids_L[:-1], sizes.new_zeros(ends[-1] - shared)]))

    present_NC, segment_RS = completion_mask_NC.bool(), _right_padded(segments, -1)
    if additive_mask is None:
        packed = PackedAttention.of_rows((segment_RS == 0).sum(1), segment_RS.shape[1], row_N, column_NC, present_NC)
        attention = {"attention_mask": NO_MASK, SHARED_PREFIX: packed}
    else:
        attention = {"attention_mask": additive(visible_pairs(segment_RS), additive_mask)}
    inputs = {
        "input_ids": _right_padded(ids, pad_token_id),
        **attention,
        "position_ids": torch.stack([_right_padded([row[axis] for row in positions], 0) for axis in range(3)]),
        "mm_token_type_ids": _right_padded(types, 0),
        "shift_labels": completion_ids_NC[present_NC][None],
        **image_inputs([prompts[group] for group, _ in rows]),
    }
    return PackedGroups(inputs, row_N[:, None] * segment_RS.shape[1] + column_NC, present_NC)


def pack_flat(
    prompts: Sequence[PromptTensors], group_index_N: Tensor, completion_ids_NC: Tensor, completion_mask_NC: Tensor
) -> PackedGroups:
    """Put all groups into one row without padding: all prompts, and behind them all completions.

    For models whose text layers have the attention `shared_prefix` where `packs_flat` holds. Arguments as of
    `pack_groups`.
    """
    device = completion_ids_NC.device
    lengths: list[int] = completion_mask_NC.sum(1).tolist()
    groups: list[int] = group_index_N.tolist()
    members = [[n for n, group in enumerate(groups) if group == one] for one in range(len(prompts))]
    shared = [len(prompt.input_ids_L) - 1 for prompt in prompts]
    place = sum(shared)
    start_N = torch.zeros(len(lengths), dtype=torch.long)
    ids, positions = [prompt.input_ids_L[:-1] for prompt in prompts], [p.position_ids_AL[:, :-1] for p in prompts]
    step_C = torch.arange(completion_ids_NC.shape[1], device=device)
    for prompt, some in zip(prompts, members, strict=True):
        last, after_AC = prompt.input_ids_L[-1:], prompt.position_ids_AL[:, -1:] + step_C
        for n in some:
            start_N[n] = place
            place += lengths[n]
            ids.append(torch.cat([last, completion_ids_NC[n, : max(0, lengths[n] - 1)]])[: lengths[n]])
            positions.append(after_AC[:, : lengths[n]])
    types = [prompt.mm_token_type_ids_L[:-1] for prompt in prompts]
    types.append(step_C.new_zeros(place - sum(shared)))
    packing = Packing.of(shared, [[lengths[n] for n in some] for some in members], device)
    present_NC = completion_mask_NC.bool()
    inputs = {
        "input_ids": torch.cat(ids)[None],
        "attention_mask": NO_MASK,
        SHARED_PREFIX: FlatAttention(sum(shared), packing),
        "position_ids": torch.cat(positions, 1)[:, None],
        "mm_token_type_ids": torch.cat(types)[None],
        "shift_labels": completion_ids_NC[present_NC][None],
        **image_inputs(prompts),
    }
    return PackedGroups(inputs, start_N.to(device)[:, None] + step_C, present_NC)


def _right_padded(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as eager attention adds it to the scores."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)


def visible_pairs(segment_RS: Tensor) -> Tensor:
    """Attention mask (R, 1, S, S): each token sees the prompt (segment 0) and its own segment, causally.

    Padding (segment -1) sees itself only, because a row of the softmax with nothing to see is not a number.
    """
    size = segment_RS.shape[1]
    causal_SS = torch.ones(size, size, dtype=torch.bool, device=segment_RS.device).tril()
    query, key = segment_RS[:, :, None], segment_RS[:, None, :]
    visible_RSS = causal_SS & (key >= 0) & ((key == query) | (key == 0) & (query >= 0))
    itself_SS = torch.eye(size, dtype=torch.bool, device=segment_RS.device)
    return (visible_RSS | itself_SS)[:, None]
