//! The whole model.

use burn::tensor::Tensor;

use super::head::AttentionPoolingClassifier;
use super::mask::prefix_causal_mask;
use super::params::Params;
use super::patch_embed::PatchEmbed;
use super::position::sin_cos;
use super::trunk::Trunk;
use crate::config::Config;
use crate::device::backend::AimBackend;
use crate::error::{Error, Result};

/// AIM v1 with its attention probe, ready to run.
///
/// Source: `AIM` of the reference (`aim/v1/torch/models.py`), in evaluation mode.
#[derive(Clone, Debug)]
pub struct Aim<B: AimBackend> {
    config: Config,
    patchifier: PatchEmbed<B>,
    /// The position for pictures of the trained size; other sizes compute their own.
    position: Tensor<B, 3>,
    trunk: Trunk<B>,
    head: AttentionPoolingClassifier<B>,
}

/// What one pass over a batch gives.
#[derive(Clone, Debug)]
pub struct Output<B: AimBackend> {
    /// `[batch, num_classes]`
    pub logits: Tensor<B, 2>,
    /// The outputs of the blocks asked for, in the order asked, each `[batch, tokens, embed_dim]`.
    pub features: Vec<Tensor<B, 3>>,
}

/// What the trunk gives, each `[batch, tokens, embed_dim]`.
struct Run<B: AimBackend> {
    features: Vec<Tensor<B, 3>>,
    /// The mean of the probe layers, if there are any.
    probed: Option<Tensor<B, 3>>,
}

impl<B: AimBackend> Aim<B> {
    /// Builds the model from its tensors, with its first `blocks` blocks: at least
    /// [`Config::blocks_to_run`], more for features above the probe.
    ///
    /// # Errors
    /// As [`Scope::tensor`](super::params::Scope::tensor); [`ErrorKind::OutOfMemory`](crate::ErrorKind::OutOfMemory) if the positions
    /// don't fit in memory.
    pub fn new(
        config: Config,
        blocks: usize,
        mut params: Params<B>,
        device: &B::Device,
    ) -> Result<Self> {
        let mut preprocessor = params.scope("preprocessor");
        let patchifier = PatchEmbed::new(&config, &mut preprocessor.scope("patchifier"))?;
        let [height, width] = config.img_size;
        let position = sin_cos(config.grid(height, width)?, config.embed_dim, device)?;
        let trunk = Trunk::new(&config, blocks, &mut params.scope("trunk"))?;
        let head = AttentionPoolingClassifier::new(&config, &mut params.scope("head"))?;
        Ok(Self {
            config,
            patchifier,
            position,
            trunk,
            head,
        })
    }

    /// The same model with another head, which `params` holds; its trunk is shared.
    ///
    /// # Errors
    /// As [`Scope::tensor`](super::params::Scope::tensor).
    pub fn with_head(&self, num_classes: usize, mut params: Params<B>) -> Result<Self> {
        let config = Config {
            num_classes,
            ..self.config.clone()
        };
        let head = AttentionPoolingClassifier::new(&config, &mut params.scope("head"))?;
        Ok(Self {
            config,
            head,
            ..self.clone()
        })
    }

    /// The configuration it was built from.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// How many blocks are loaded.
    pub const fn blocks(&self) -> usize {
        self.trunk.len()
    }

    /// Classifies a batch.
    ///
    /// # Shapes
    /// - `images`: `[batch, num_channels, height, width]`, normalised
    /// - output: `[batch, num_classes]`, logits
    ///
    /// # Errors
    /// [`ErrorKind::Option`](crate::ErrorKind::Option) if the channels differ from the model's or
    /// a picture is smaller than one patch.
    pub fn logits(&self, images: Tensor<B, 4>) -> Result<Tensor<B, 2>> {
        Ok(self.logits_and_features(images, &[])?.logits)
    }

    /// The outputs of chosen blocks, before any final norm; no block after the highest one runs.
    ///
    /// # Shapes
    /// - `images`: `[batch, num_channels, height, width]`, normalised
    /// - each output: `[batch, tokens, embed_dim]`, in the order of `layers`
    ///
    /// # Errors
    /// As [`logits`](Self::logits), and if a layer is not among the loaded blocks.
    pub fn features(&self, images: Tensor<B, 4>, layers: &[usize]) -> Result<Vec<Tensor<B, 3>>> {
        let tokens = self.tokens(images)?;
        Ok(self.run(tokens, layers, &[], None)?.features)
    }

    /// Logits and the outputs of chosen blocks in one pass.
    ///
    /// # Shapes
    /// As [`logits`](Self::logits) and [`features`](Self::features).
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn logits_and_features(&self, images: Tensor<B, 4>, layers: &[usize]) -> Result<Output<B>> {
        let tokens = self.tokens(images)?;
        let run = self.run(tokens, layers, &self.config.probe_layers, None)?;
        let probed = run
            .probed
            .ok_or_else(|| Error::option("the model has no probe layers"))?;
        Ok(Output {
            logits: self.head.forward(probed),
            features: run.features,
        })
    }

    /// The mean over the outputs of chosen blocks, which is what the probe reads; no block after the highest one runs.
    ///
    /// # Shapes
    /// - `images`: `[batch, num_channels, height, width]`, normalised
    /// - output: `[batch, tokens, embed_dim]`
    ///
    /// # Errors
    /// As [`features`](Self::features), and if no layer is asked for.
    pub fn mean_of_layers(&self, images: Tensor<B, 4>, layers: &[usize]) -> Result<Tensor<B, 3>> {
        let tokens = self.tokens(images)?;
        let run = self.run(tokens, &[], layers, None)?;
        run.probed
            .ok_or_else(|| Error::option("no layer is asked for"))
    }

    /// Tokens as the probe's attention pools them, before it classifies.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, tokens, embed_dim]`, the mean of some layers
    /// - output: `[batch, embed_dim]`
    pub fn pooled_by_probe(&self, tokens: Tensor<B, 3>) -> Tensor<B, 2> {
        self.head.pool(tokens)
    }

    /// The outputs of chosen blocks under the mask of pre-training, in which a token sees the
    /// first `prefix` tokens and those up to itself.
    ///
    /// # Shapes
    /// As [`features`](Self::features).
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn causal_features(
        &self,
        images: Tensor<B, 4>,
        layers: &[usize],
        prefix: usize,
    ) -> Result<Vec<Tensor<B, 3>>> {
        let tokens = self.tokens(images)?;
        Ok(self.run(tokens, layers, &[], Some(prefix))?.features)
    }

    /// The input of the first block: embedded patches plus their position.
    ///
    /// # Shapes
    /// - `images`: `[batch, num_channels, height, width]`, normalised
    /// - output: `[batch, tokens, embed_dim]`
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn tokens(&self, images: Tensor<B, 4>) -> Result<Tensor<B, 3>> {
        let [batch, channels, height, width] = images.dims();
        if batch == 0 {
            return Err(Error::option("the batch holds no pictures"));
        }
        if channels != self.config.num_channels {
            return Err(Error::option(format!(
                "the input has {channels} colour channels, but the model takes {}",
                self.config.num_channels
            )));
        }
        let position = if [height, width] == self.config.img_size {
            self.position.clone()
        } else {
            let grid = self.config.grid(height, width)?;
            sin_cos(grid, self.config.embed_dim, &images.device())?
        };
        Ok(self.patchifier.forward(images) + position)
    }

    /// Runs the blocks, keeps the outputs of `layers`, and averages those of `probe_layers`.
    fn run(
        &self,
        tokens: Tensor<B, 3>,
        layers: &[usize],
        probe_layers: &[usize],
        prefix: Option<usize>,
    ) -> Result<Run<B>> {
        let blocks = self.trunk.len();
        let needed = layers.iter().chain(probe_layers).max();
        let needed = needed.map_or(0, |highest| highest + 1);
        if needed > blocks {
            return Err(Error::option(format!(
                "block {} is needed, but only the first {blocks} are loaded",
                needed - 1
            )));
        }

        let [_, length, _] = tokens.dims();
        let mask = prefix.map(|prefix| prefix_causal_mask(length, prefix, &tokens.device()));

        let mut features: Vec<Option<Tensor<B, 3>>> = vec![None; layers.len()];
        let mut probed: Option<Tensor<B, 3>> = None;
        let outputs = self.trunk.outputs(tokens, mask.as_ref()).take(needed);
        for (block, output) in outputs.enumerate() {
            for (feature, _) in features
                .iter_mut()
                .zip(layers)
                .filter(|(_, l)| **l == block)
            {
                *feature = Some(output.clone());
            }
            for _ in probe_layers.iter().filter(|layer| **layer == block) {
                probed = Some(match probed {
                    Some(sum) => sum + output.clone(),
                    None => output.clone(),
                });
            }
        }
        let probed = probed.map(|sum| sum / probe_layers.len() as f64);
        Ok(Run {
            features: features.into_iter().flatten().collect(),
            probed,
        })
    }
}
