//! The stack of blocks: `trunk`.

use burn::tensor::{Bool, Tensor};

use super::block::Block;
use super::params::Scope;
use crate::config::Config;
use crate::device::backend::AimBackend;
use crate::error::Result;

/// The first blocks of the model: at least those up to the highest one that the probe reads.
///
/// `post_trunk_norm` is left out: the probe reads the outputs of blocks, which come before it.
///
/// Source: `Transformer` of the reference (`aim/v1/torch/layers.py`).
#[derive(Clone, Debug)]
pub struct Trunk<B: AimBackend> {
    blocks: Vec<Block<B>>,
}

impl<B: AimBackend> Trunk<B> {
    /// Takes the first `blocks` blocks out of `params`.
    ///
    /// # Errors
    /// As [`Scope::tensor`](super::params::Scope::tensor).
    pub fn new(config: &Config, blocks: usize, params: &mut Scope<'_, B>) -> Result<Self> {
        let blocks = (0..blocks)
            .map(|i| Block::new(config, &mut params.scope(&format!("blocks.{i}"))))
            .collect::<Result<_>>()?;
        Ok(Self { blocks })
    }

    /// The blocks that were loaded.
    pub const fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True if no block was loaded.
    pub const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The output of each block in turn; a block runs when its output is asked for.
    ///
    /// # Shapes
    /// - `tokens`, every output: `[batch, tokens, embed_dim]`
    /// - `mask`: `[tokens, tokens]`, true where a row's token may not see a column's
    pub fn outputs<'a>(
        &'a self,
        tokens: Tensor<B, 3>,
        mask: Option<&'a Tensor<B, 2, Bool>>,
    ) -> impl Iterator<Item = Tensor<B, 3>> + 'a {
        self.blocks.iter().scan(tokens, move |x, block| {
            *x = block.forward(x.clone(), mask);
            Some(x.clone())
        })
    }
}
