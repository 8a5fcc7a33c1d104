"""Supervised fine-tuning: TRL's trainer and collator, which get their ids from where sampling and GRPO get theirs."""

from collections.abc import Sequence
from typing import Any

from PIL import Image
from transformers import BatchFeature
from trl import SFTTrainer

from medr1.models.literal import chat_text
from medr1.models.sharding import head_gathered
from medr1.models.shared.pack import tokenized
from medr1.train.checkpoints import PublishesCheckpoints
from medr1.train.masters import MasterWeights


class SupervisedTrainer(PublishesCheckpoints, MasterWeights, SFTTrainer):
    """TRL's trainer with float32 masters, and with the head gathered that its fused loss takes without calling it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        collator: Any = self.data_collator
        collator.processor = LiteralProcessor(collator.processor)

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """The parent's."""
        with head_gathered(self.accelerator.unwrap_model(model)):
            return super().compute_loss(model, *args, **kwargs)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        """The parent's; tokens are counted on from the checkpoint, where TRL begins with none."""
        found = super()._init_training_state(*args, **kwargs)
        counts = [record["num_tokens"] for record in self.state.log_history if "num_tokens" in record]
        self._total_train_tokens = counts[-1] if counts else 0
        return found


class LiteralProcessor:
    """A processor as TRL's collator calls it, for which text of a record is text."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def apply_chat_template(self, messages: Sequence[Any], **settings: Any) -> str:
        """The processor's own, with marks for control text in the messages."""
        return chat_text(self.processor, messages, **{"add_generation_prompt": False, **settings})

    def __call__(
        self,
        text: Sequence[str],
        images: Sequence[Sequence[Image.Image]] | None = None,
        *,
        padding_side: str,
        **_: Any,
    ) -> BatchFeature:
        """Ids padded on a side, their mask and types, and the patches of all pictures."""
        ids, pixels = tokenized(self.processor, text, images or [()] * len(text))
        padded = self.processor.tokenizer.pad({"input_ids": ids}, padding_side=padding_side, return_tensors="pt")
        types = (padded["input_ids"] == self.processor.image_token_id).long()
        return BatchFeature({**padded, "mm_token_type_ids": types, **pixels})
