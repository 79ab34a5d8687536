"""The shape of a Cognate: a decoder-only transformer with two optional modules, memory and refinement."""

from transformers import PreTrainedConfig


class CognateConfig(PreTrainedConfig):
    """Settings of a Cognate network.

    vocab_size .. rms_norm_eps: the usual ones of a decoder (RMSNorm, RoPE, SwiGLU, grouped-query attention).
    memory: Titans neural memory in front of the middle block (memory.py), `memory_heads` matrices of
        (memory_size / memory_heads)² numbers, updated once every `memory_chunk` tokens.
    refinement: one weight-shared block applied up to `refinement_steps` times with PonderNet halting
    (refinement.py);
        `refinement_prior` is the halting probability of the geometric prior, `refinement_beta` the weight of
        its KL.
    thoughts: None, or {"length": tokens per thought, "mixing": True}: adds the Quiet-STaR mixing head.
    experts: None, or what the agent knows of its SVF experts; set_expert travels with the model then
    (experts.py). storage: module path → how that module's weight is stored ({"codec": …, "shape": […],
    "bytes": …}, see coded.py).
    """

    model_type = "cognate"

    vocab_size: int = 272
    hidden_size: int = 128
    intermediate_size: int = 344
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 1024
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    memory: bool = False
    memory_size: int = 64
    memory_heads: int = 2
    memory_chunk: int = 16
    refinement: bool = False
    refinement_size: int = 128
    refinement_steps: int = 2
    refinement_prior: float = 0.5
    refinement_beta: float = 0.01
    thoughts: dict | None = None
    experts: dict | None = None
    storage: dict | None = None
    pad_token_id: int | None = 256
    bos_token_id: int | None = 257
    eos_token_id: int | list[int] | None = 258

    def __post_init__(self, **kwargs):
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.storage is None:
            self.storage = {}
        super().__post_init__(**kwargs)
        self.validate_architecture()

    def validate_architecture(self):
        """Refuse dimensions that do not divide, by name."""
        for whole, part in (
            ("hidden_size", "num_attention_heads"),
            ("num_attention_heads", "num_key_value_heads"),
            ("memory_size", "memory_heads"),
        ):
            if getattr(self, whole) % getattr(self, part):
                values = (
                    f"{whole} ({getattr(self, whole)}) is not a multiple of {part} ({getattr(self, part)})"
                )
                raise ValueError(values)
        if self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size / num_attention_heads must be even: RoPE rotates pairs")
