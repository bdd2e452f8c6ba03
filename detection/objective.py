"""A detector as an ``Objective``: detectron2's losses, rates by layer, weight decay by rule."""

from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from backbones.base.distributed import rank, world_size
from backbones.training.config import RuntimeConfig
from backbones.training.engine import Pause, Training
from backbones.training.objective import Moment, Objective
from backbones.training.optim import ParameterGroup, make_optimizer, parameter_groups
from backbones.training.reporter import ScalarWriter
from backbones.training.schedules import Plan
from backbones.training.stream import share_out
from detection.config import DetectionConfig, DetectionOptimConfig, at_depth
from detection.model.detector import Detector
from detection.model.pyramid import MapNorm

# What detectron2 takes for a norm; its own channel-first LayerNorm is missing there.
_UPSTREAM_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LocalResponseNorm,
)
# Steps between two points of what detectron2 counts (accuracies, samples an image).
_COUNT_STEPS = 20
_PREFIX = "detector."


class DetectionObjective(Objective):
    """The losses of a detector.

    Attributes:
        detector: Takes lists of dicts, gives detectron2's losses in training.
    """

    # Each norm is what the recipe says, and none of detectron2's but "SyncBN" asks other processes.
    shares_statistics = False

    def __init__(
        self, detector: Detector, config: DetectionOptimConfig, writer: ScalarWriter | None = None
    ) -> None:
        """Set up.

        Args:
            detector: On its device, in training mode.
            config: Rates by layer, and the rule of weight decay.
            writer: For what detectron2 counts during training.
        """
        super().__init__()
        self.detector = detector
        # Outside the module tree, where the backbone is already, inside the detector.
        object.__setattr__(self, "backbone", detector.net)
        self._config = config
        self._writer = writer
        self._storage = EventStorage()
        self.register_load_state_dict_pre_hook(_take_bare_names)  # type: ignore[no-untyped-call]

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return detectron2's losses.

        Args:
            batch: "samples", a list of detectron2's dicts, one an image.

        Raises:
            FloatingPointError: The region proposals are no finite numbers.
        """
        samples, draws = batch["samples"], self.draws
        # detectron2's modules count into the storage that is open, and insist on one.
        with self._storage:
            if draws is not None:
                return self.detector.losses_by_part(samples, self.part, draws.enter)
            losses: dict[str, Tensor] = self.detector(samples)
        return losses

    def begin_step(self, moment: Moment) -> None:
        """Count this step's events."""
        self._storage = EventStorage(moment.step)

    def after_update(self, moment: Moment) -> None:
        """Write down now and then what detectron2 counted."""
        if self._writer is not None and (moment.step + 1) % _COUNT_STEPS == 0:
            for name, (value, _) in self._storage.latest().items():
                self._writer.add_scalar(name, value, moment.step + 1)

    def no_weight_decay(self) -> frozenset[str]:
        """Return names of parameters without weight decay, by ``decay_rule``."""
        rule = self._config.decay_rule
        # Without any decay there is nothing to be spared, and one group a rate is enough.
        if rule == "everything" or not self._config.weight_decay:
            return frozenset()
        net = self.detector.net
        own = net.no_weight_decay()
        spared = {id(p) for name, p in net.named_parameters() if name in own}
        if rule == "weights":
            spared |= {id(p) for p in self.parameters() if p.ndim <= 1}
        else:
            norms = _UPSTREAM_NORMS if rule == "vitdet" else (*_UPSTREAM_NORMS, MapNorm)
            spared |= {id(p) for p in _parameters_of(self, norms)}
        return frozenset(name for name, p in self.named_parameters() if id(p) in spared)

    def lr_factors(self) -> Mapping[str, float]:
        """Return the factors of the backbone's parameters; neck and heads have the full rate.

        The rate falls by ``layer_decay`` from each layer of the backbone to the one below, by
        ``Backbone.layer_id``.
        """
        net = self.detector.net
        by_name = net.lr_factors(at_depth(self._config.layer_decay, net.num_layers))
        factors = {id(p): by_name[name] for name, p in net.named_parameters()}
        return {n: factors[id(p)] for n, p in self.named_parameters() if id(p) in factors}


def detector_groups(
    objective: DetectionObjective, config: DetectionOptimConfig
) -> list[ParameterGroup]:
    """Return the trainable parameters by rate and decay, the lowest rate first.

    Saved states and the sum over all gradients' norms depend on this order, so that it stays the
    one that detection always had.
    """
    groups = parameter_groups(objective, config)
    return sorted(groups, key=lambda group: (group.lr_factor, group.decayed))


def make_training(
    objective: DetectionObjective,
    groups: list[ParameterGroup],
    plan: Plan,
    config: DetectionConfig,
    seed: int,
    pause: Pause | None = None,
) -> Training:
    """Return what the training loop needs to train a detector.

    Args:
        objective: On its device.
        groups: Its parameters (``detector_groups``).
        plan: Rates and length in steps.
        config: Resolved.
        seed: Of the run.
        pause: Evaluations during training.

    Raises:
        UserError: The global batch cannot be shared out evenly.
    """
    return Training(
        objective=objective,
        optimizer=make_optimizer(groups, config.optim),
        plan=plan,
        share=share_out(config.schedule, rank(), world_size()),
        # Pretraining's keys begin with a word; all results so far depend on the difference.
        seed_key=(seed,),
        # detectron2's models move and normalise images themselves.
        ready=lambda batch: batch,
        optim=config.optim,
        schedule=config.schedule,
        runtime=RuntimeConfig(),
        phase="train",
        bound="optim.clip_norm",
        pause=pause,
    )


def _parameters_of(root: nn.Module, kinds: tuple[type, ...]) -> Iterator[nn.Parameter]:
    for module in root.modules():
        if isinstance(module, kinds):
            yield from module.parameters(recurse=False)


def _take_bare_names(module: nn.Module, state: dict[str, Any], *_: Any) -> None:
    """Read also states of earlier versions, which saved the detector by itself."""
    del module
    for name in [name for name in state if not name.startswith(_PREFIX)]:
        state[_PREFIX + name] = state.pop(name)
