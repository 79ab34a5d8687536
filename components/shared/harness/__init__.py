"""lm-evaluation-harness (EleutherAI), both ways: our models as its `LM`, our suites as its tasks.

Only what stands here imports lm_eval: it is the extra `harness`.
"""
