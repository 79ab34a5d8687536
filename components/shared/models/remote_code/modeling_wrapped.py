"""Any causal language model of transformers, with some of its layers stored coded or trained ternary."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel

from .coded import CodedEmbedding, apply_storage  # if coded
from .experts import set_expert  # if experts
from .grafts import attach, open_to_training, pondered_loss  # if grafts
from .projections import linear_form  # if linear
from .thoughts import TalkHead  # if thoughts


class ForgeWrappedConfig(PreTrainedConfig):
    """The config of a wrapped model.

    inner: the wrapped model's own config as a dict, `model_type` included. storage, thoughts, experts: as in a Cognate;
    module paths begin with "inner.". linear: the wrapped model is in linear form (projections.py).
    memory, refinement: None, or the numbers of a module between its layers (grafts.py).
    """

    model_type = "forge_wrapped"

    inner: dict | None = None
    thoughts: dict | None = None
    experts: dict | None = None
    linear: bool = False
    storage: dict | None = None
    memory: dict | None = None
    refinement: dict | None = None

    def __post_init__(self, **kwargs):
        self.storage = self.storage or {}
        super().__post_init__(**kwargs)
        if self.inner is not None:
            self.inner_config = AutoConfig.for_model(**self.inner)

    def get_text_config(self, decoder=None, encoder=None):
        """The wrapped model's text config."""
        return (
            self
            if self.inner is None
            else self.inner_config.get_text_config(decoder=decoder, encoder=encoder)
        )

    def to_dict(self):
        """What is stored: `inner` stands for the wrapped model's config."""
        return {name: value for name, value in super().to_dict().items() if name != "inner_config"}

    def __getattr__(self, name):
        if name.startswith("_") or "inner_config" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.inner_config, name)


class TiedHead(nn.Module):
    """The head of a model that shares its weight with the embedding, which is coded: it computes with what that decodes to.

    ties: the head, flag and keys that were there before, as ForgeWrapped.ties says them.
    """

    def __init__(self, embedding, ties):
        super().__init__()
        self.shared, self.ties = [embedding], [ties]  # in lists: no modules of this one

    @property
    def weight(self):
        """The embedding's decoded weight."""
        return self.shared[0].weight

    def forward(self, x):
        """Hidden states x (…, hidden) → logits (…, vocabulary)."""
        return F.linear(x, self.weight.to(x.dtype))


class ForgeWrapped(PreTrainedModel, GenerationMixin):
    """`inner` is the model itself; this class only puts coded layers into it and passes calls on."""

    config_class = ForgeWrappedConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True  # as far as the wrapped model does, which is asked itself
    _supports_sdpa = True

    set_expert = set_expert  # if experts

    def __init__(self, config, inner=None):
        super().__init__(config)
        if inner is None:  # in the dtype that this model is being made in, not in that of its own config
            dtype = torch.get_default_dtype()
            inner = AutoModelForCausalLM.from_config(
                config.inner_config, dtype=dtype, trust_remote_code=False
            )
        else:  # its weights are there: transformers would make those anew that it did not load itself
            for module in inner.modules():
                module._is_hf_initialized = True
        if config.linear:  # if linear
            linear_form(inner)  # if linear
        self.inner = inner
        if config.memory or config.refinement:
            attach(self)
        if config.thoughts:
            self.talk_head = TalkHead(config.get_text_config().hidden_size)
        if config.storage:
            apply_storage(self, config.storage)
            self.tie_to_code()
        self.post_init()

    def tie_to_code(self):
        """Where the embedding is coded and the head shares its weight, put a TiedHead there."""
        embedding, ties = self.inner.get_input_embeddings(), self.ties()
        if isinstance(embedding, CodedEmbedding) and (ties[1] or isinstance(ties[0], TiedHead)):
            before = ties[0].ties[0] if isinstance(ties[0], TiedHead) else ties
            self.tie_again((TiedHead(embedding, before), False, {}))

    def ties(self):
        """The head, whether it shares the embedding's weight, and what else is tied to what."""
        flag = self.inner.config.get_text_config().tie_word_embeddings
        return self.inner.get_output_embeddings(), flag, self.inner.all_tied_weights_keys

    def tie_again(self, ties):
        """As `ties` said that it was."""
        head, self.inner.config.get_text_config().tie_word_embeddings, self.inner.all_tied_weights_keys = ties
        self.inner.set_output_embeddings(head)

    def _init_weights(self, module):
        if hasattr(module, "start_closed"):
            module.start_closed()

    def get_input_embeddings(self):
        """The wrapped model's."""
        return self.inner.get_input_embeddings()

    def get_output_embeddings(self):
        """The wrapped model's head."""
        return self.inner.get_output_embeddings()

    def prepare_inputs_for_generation(self, *args, **kwargs):
        """As the wrapped model does."""
        return self.inner.prepare_inputs_for_generation(*args, **kwargs)

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, labels=None, **kwargs):
        """As the wrapped model does. `generate` takes a mask, and gives positions, only where they are named here.

        Where a refinement is trained the loss is PonderNet's.
        """
        kwargs |= {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
        if position_ids is not None:
            kwargs["position_ids"] = position_ids
        if labels is not None and self.training and self.config.refinement and open_to_training(self):
            return pondered_loss(self, **kwargs)
        return self.inner(**kwargs)
