"""Swin's block with its windows as Microsoft's and EsViT's code cuts them, at less cost.

timm shifts first and then pads to whole windows, so that padding is masked where the originals
(microsoft/Swin-Transformer, microsoft/esvit) let it take part in attention; on grids that are no
multiple of the window, as those of local crops, the results differ.
"""

import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor

from backbones.swin_windows import cut_windows, join_windows, shift_mask, windows_of


class SwinBlock(SwinTransformerBlock):  # type: ignore[misc]
    """A block that pads to whole windows and then shifts.

    What the originals pad with is zeros in front of the projection to queries, keys and values; its
    bias is all that those tokens have. So where there is padding, real tokens alone are projected,
    before and after attention.
    """

    def _attn(self, x: Tensor) -> Tensor:
        """Attend within windows.

        Args:
            x: (B, rows, columns, C).

        Returns:
            Of the same shape.
        """
        batch, rows, columns, channels = x.shape
        project, (high, wide) = self.attn.qkv, self.window_size
        order = windows_of(rows, columns, self.window_size, self.shift_size, x.device)
        tokens = x.reshape(batch, rows * columns, channels)
        if order.padded:
            qkv = project(tokens)
            fill = qkv.new_zeros(qkv.shape[-1]) if project.bias is None else project.bias
            qkv = cut_windows(qkv, order, fill.to(qkv.dtype))
        else:
            qkv = project(cut_windows(tokens, order))
        bias = self.attn._get_rel_pos_bias()
        if any(self.shift_size):
            bias = bias + shift_mask(order, bias.dtype)
        found = self._attend(qkv.view(-1, high * wide, qkv.shape[-1]), bias)
        found = found.view(batch, -1, found.shape[-1])
        project = self.attn.proj
        # Projected where there are fewer tokens or, if there are as many, where they lie already.
        if order.padded:
            joined = project(join_windows(found, order))
        else:
            joined = join_windows(project(found), order)
        out: Tensor = self.attn.proj_drop(joined)
        return out.view(batch, rows, columns, channels)

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """Return (B * windows, N, C).

        Args:
            qkv: (B * windows, N, 3 C).
            bias: (1 or windows, heads, N, N), added to the logits: by position and, in shifted
                windows, by what is no neighbour. Together they take one pass over the logits.
        """
        count, length, _ = qkv.shape
        heads = self.attn.num_heads
        q, k, v = qkv.view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.attn.fused_attn:
            each = bias if len(bias) == 1 else bias.repeat(count // len(bias), 1, 1, 1)
            drop = self.attn.attn_drop.p if self.training else 0.0
            fused = F.scaled_dot_product_attention(q, k, v, attn_mask=each, dropout_p=drop)
            return fused.transpose(1, 2).reshape(count, length, -1)
        logits = (q * self.attn.scale) @ k.mT
        logits = logits.view(-1, len(bias), heads, length, length) + bias
        weights = self.attn.attn_drop(F.softmax(logits, dim=-1))
        found: Tensor = weights.view(count, heads, length, length) @ v
        return found.transpose(1, 2).reshape(count, length, -1)
