"""MAE: pretraining with or without decoder, fine-tuning, linear probe."""

from backbones.weights.layout import IMAGENET, Format

FORMAT = Format(
    name="mae",
    project="MAE",
    link="https://github.com/facebookresearch/mae",
    licence="CC-BY-NC-4.0",
    method="mae",
    marks=("*decoder_embed.weight", "*decoder_pred.weight", "*decoder_blocks.*"),
    # Options of its fine-tuning and linear probe; the files have timm's names.
    stated=("args.blr", "args.global_pool", "args.finetune"),
    files=("mae_pretrain_vit_*", "mae_finetune*_vit_*", "mae_visualize_vit_*"),
    drops=(("decoder_*", "MAE's decoder"),),
    norm=IMAGENET,
    archs=("zoo",),
)
