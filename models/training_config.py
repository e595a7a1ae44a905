"""How a model is optimised."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """How a model is optimised.

    Attributes:
        batch_size: Tiles per step and device.
        epochs: Passes over the samples; the learning rate falls to its end over them.
        max_seconds: Time limit: the learning rate then falls with the time, if that is further than the epochs.
            The result depends on the machine's speed; leave None for a reproducible one.
        learning_rate: Peak of the learning rate.
        final_share: Share of the peak that is left at the end of the cosine.
        warmup: Share of the run over which the learning rate rises to its peak.
        weight_decay: Of AdamW, on weights; biases, norms and tokens have none.
        encoder_rate: Factor on the learning rate of a pretrained encoder.
        accumulate: Steps whose gradients are added up.
        clip: Largest norm of the gradient.
        precision: Lightning's precision: ``32-true``, ``bf16-mixed``, ``16-mixed`` or ``bf16-true``.
        accelerator: Lightning's accelerator: ``auto``, ``cpu``, ``gpu``.
        devices: Devices of this machine; more than one trains with DDP.
        workers: Processes that prepare batches; 0 prepares them in this one.
        validate_every: Epochs between validations; the last epoch is always validated.
        patience: Validations without a better figure after which the run stops; None never stops early.
        keep: ``last`` weights, or those of the ``best`` validation.
        ema: Share of the past in a moving average of the weights, which is then what is validated and kept; None
            keeps the weights of the last step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: Annotated[int, Field(gt=0)] = 8
    epochs: Annotated[int, Field(gt=0)] = 20
    max_seconds: Annotated[float | None, Field(gt=0)] = None
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.08
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    encoder_rate: Annotated[float, Field(ge=0)] = 1.0
    accumulate: Annotated[int, Field(gt=0)] = 1
    clip: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Field(gt=0)] = 1
    workers: Annotated[int, Field(ge=0)] = 0
    validate_every: Annotated[int, Field(gt=0)] = 5
    patience: Annotated[int | None, Field(gt=0)] = None
    keep: Annotated[str, Field(pattern="^(last|best)$")] = "last"
    ema: Annotated[float | None, Field(ge=0, lt=1)] = None
