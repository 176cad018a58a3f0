//! The mask of autoregressive pre-training with a prefix.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};

/// True where a row's token may not see a column's: those that come after it, except in the
/// prefix, which everybody sees.
///
/// Inference uses no mask at all; a prefix of 0 gives the plain causal mask.
///
/// Source: section 3.2 (prefix transformer) of the paper.
///
/// # Shapes
/// - output: `[tokens, tokens]`
pub fn prefix_causal_mask<B: Backend>(
    tokens: usize,
    prefix: usize,
    device: &B::Device,
) -> Tensor<B, 2, Bool> {
    let index = Tensor::arange(0..tokens as i64, device);
    let query = index.clone().reshape([tokens, 1]).expand([tokens, tokens]);
    let key = index.reshape([1, tokens]).expand([tokens, tokens]);
    let after: Tensor<B, 2, Bool> = key.clone().greater(query);
    after.bool_and(key.greater_equal_elem(prefix as i64))
}
