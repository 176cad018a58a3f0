//! The model's parts on slices.

use burn::tensor::Tensor;

use super::Cpu;
use super::tensor::{fail, from_values, or_nan, values};
use crate::cpu::block;
use crate::cpu::norm::Norm;
use crate::cpu::pool::Probe;
use crate::error::Result;
use crate::model::block::Block;
use crate::model::head::AttentionPoolingClassifier;
use crate::model::norm::EPSILON;

/// # Shapes
/// - `x`, output: `[batch, tokens, dim]`
pub(super) fn forward(of: &Block<Cpu>, x: Tensor<Cpu, 3>) -> Tensor<Cpu, 3> {
    let dims = x.dims();
    let [_, tokens, _] = dims;
    let norms = [&of.norm_1, &of.norm_2]
        .map(|norm| [norm.weight(), norm.bias()].map(|tensor| values(tensor.clone())));
    let [norm_1, norm_2] = norms.each_ref().map(|[weight, bias]| norm(weight, bias));
    let block = block::Block {
        norm_1,
        qkv: of.attn.qkv().weight(),
        proj: of.attn.proj().weight(),
        norm_2,
        fc1: of.mlp.fc1().weight(),
        fc2: of.mlp.fc2().weight(),
        num_heads: of.attn.num_heads(),
    };
    let mut x = values(x);
    or_nan(block.forward(&mut x, tokens), &mut x);
    from_values(x, dims)
}

/// # Shapes
/// - `tokens`: `[batch, tokens, dim]`
/// - output: `[batch, num_classes]`
pub(super) fn probe(
    head: &AttentionPoolingClassifier<Cpu>,
    tokens: Tensor<Cpu, 3>,
) -> Tensor<Cpu, 2> {
    let [num_classes, _] = head.linear.weight().dims();
    probed(head, tokens, num_classes, |probe, x, length| {
        probe.forward(x, length)
    })
}

/// # Shapes
/// - `tokens`: `[batch, tokens, dim]`
/// - output: `[batch, dim]`
pub(super) fn pool(
    head: &AttentionPoolingClassifier<Cpu>,
    tokens: Tensor<Cpu, 3>,
) -> Tensor<Cpu, 2> {
    let [_, _, dim] = tokens.dims();
    probed(head, tokens, dim, |probe, x, length| {
        probe.pooled(x, length)
    })
}

/// What the probe makes of tokens: `width` values a picture.
fn probed(
    head: &AttentionPoolingClassifier<Cpu>,
    tokens: Tensor<Cpu, 3>,
    width: usize,
    run: impl FnOnce(Probe<'_>, &[f32], usize) -> Result<Vec<f32>>,
) -> Tensor<Cpu, 2> {
    let [batch, length, _] = tokens.dims();
    let [running_mean, running_std, cls_token] =
        [&head.running_mean, &head.running_std, &head.cls_token]
            .map(|tensor| values(tensor.clone()));
    let probe = Probe {
        running_mean: &running_mean,
        running_std: &running_std,
        cls_token: &cls_token,
        k: head.k.weight(),
        v: head.v.weight(),
        linear: head.linear.weight(),
        num_heads: head.num_heads,
    };
    let output = run(probe, &values(tokens), length).unwrap_or_else(|error| {
        fail(error);
        vec![f32::NAN; batch * width]
    });
    from_values(output, [batch, width])
}

/// A layer norm on slices.
pub(super) const fn norm<'a>(weight: &'a [f32], bias: &'a [f32]) -> Norm<'a> {
    Norm {
        weight,
        bias,
        epsilon: EPSILON as f32,
    }
}
