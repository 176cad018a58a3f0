//! A loaded model on its device, behind one face for all backends.
//!
//! Whoever runs a model needs no type parameter, and a backend's kernels are compiled once, here.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use crate::config::Config;
use crate::device::Device;
use crate::device::backend::{AimBackend, Rows as _};
#[cfg(feature = "cpu")]
use crate::device::cpu;
#[cfg(feature = "gpu")]
use crate::device::gpu;
pub use crate::device::host::HostTensor;
use crate::device::host::read;
use crate::error::{Error, ErrorKind, Result};
use crate::memory;
use crate::model::linear::Linear;
use crate::model::{Aim, Params};
use crate::precision::{Form, Precision};
use crate::probe::Head;
use crate::weights::checkpoint::Checkpoint;
use crate::weights::load;
use crate::weights::load::assemble::{Assembler, Loaded};
use crate::weights::load::fingerprint::Fingerprint;
use crate::weights::load::sink::Sink;
use crate::weights::remote::{Event, RemoteModel, Transport};

/// What one pass over a batch gives.
#[derive(Clone, Debug, PartialEq)]
pub struct HostOutput {
    /// `[batch, num_classes]`
    pub logits: HostTensor,
    /// The outputs of the blocks asked for, in the order asked, each `[batch, tokens, embed_dim]`.
    pub features: Vec<HostTensor>,
}

/// What becomes of the tokens of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// They stay: `[batch, tokens, embed_dim]`.
    None,
    /// Their mean: `[batch, embed_dim]`.
    Mean,
    /// As the probe's attention pools them, before it classifies: `[batch, embed_dim]`.
    Probe,
}

/// A model that is ready to run, on several threads at once if need be. `images` are `[batch, num_channels, height, width]`, normalised.
///
/// A read from a lost device may never end: await these futures by [`Device::unless_lost`].
pub trait Engine: Send + Sync {
    /// The model's shape.
    fn config(&self) -> &Config;

    /// How many blocks are loaded.
    fn blocks(&self) -> usize;

    /// How precisely the matrices are kept; never [`Precision::Auto`].
    fn precision(&self) -> Precision;

    /// Logits, and the outputs of some blocks, in one pass.
    ///
    /// Fails as [`Aim::logits_and_features`] and [`read`].
    fn logits_and_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
    ) -> LocalBoxFuture<'a, Result<HostOutput>>;

    /// The outputs of some blocks; none above the highest of them runs.
    ///
    /// Fails as [`Aim::features`] and [`read`].
    fn features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
    ) -> LocalBoxFuture<'a, Result<Vec<HostTensor>>>;

    /// The mean over the outputs of some blocks, which is what the probe reads, pooled. A layer listed twice counts
    /// twice.
    ///
    /// Fails as [`Aim::mean_of_layers`] and [`read`].
    fn pooled<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
        pool: Pool,
    ) -> LocalBoxFuture<'a, Result<HostTensor>>;

    /// What the head reads, the mean of the probe layers: `[batch, tokens, embed_dim]`.
    ///
    /// Fails as [`pooled`](Self::pooled).
    fn probed(&self, images: HostTensor) -> LocalBoxFuture<'_, Result<HostTensor>> {
        self.pooled(images, &self.config().probe_layers, Pool::None)
    }

    /// The SHA-256 of the trunk's tensors, in hexadecimal digits: by it a head knows its trunk.
    fn trunk_sha256(&self) -> &str;

    /// The same model, its trunk shared, with another head; whose trunk it is, is for the caller to check.
    ///
    /// # Errors
    /// [`ErrorKind::Option`] if the head is of another shape; those of [`Aim::with_head`].
    fn with_head(&self, head: &Head) -> Result<Box<dyn Engine>>;

    /// The outputs of some blocks under the prefix-causal mask of pre-training.
    ///
    /// Fails as [`Aim::causal_features`] and [`read`].
    fn causal_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
        prefix: usize,
    ) -> LocalBoxFuture<'a, Result<Vec<HostTensor>>>;
}

/// Tries a device with a product such as the probe and the first `blocks` blocks will ask for.
/// [`load()`] and [`fetch`] do so themselves; this is for whoever has another device to turn to.
///
/// # Errors
/// [`ErrorKind::DeviceLost`] if the product is wrong; [`ErrorKind::OutOfMemory`] if the memory of its place can't hold
/// what a picture of the trained size takes, or that of this machine the weights too; and those of [`Form::of`].
pub async fn self_check(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<()> {
    match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => check_form::<cpu::Cpu>(config, blocks, precision, &cpu::device()).await,
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => {
            let check = check_form::<gpu::Gpu>(config, blocks, precision, &gpu.device);
            device.unless_lost(check).await
        }
    }
}

async fn check_form<B: AimBackend>(
    config: &Config,
    blocks: usize,
    precision: Precision,
    device: &B::Device,
) -> Result<()> {
    let pass = Pass::smallest(config);
    pass.check::<B>(config)?;
    let form = Form::of(precision, config, blocks, B::PLACE)?;
    // Where there is a budget, `auto` keeps to it, and who asks for more has said so.
    if B::PLACE.budget.is_none() {
        let weights = form.weight_bytes(config, blocks);
        let bytes = weights.saturating_add(pass.bytes::<B>(config)?);
        let what = || {
            format!(
                "the model's weights in {}, and one picture,",
                form.precision()
            )
        };
        fits(bytes, memory::available(), what, "ask for q8 or q4")?;
    }
    B::self_check(form, device).await
}

/// What a pass over pictures takes besides the model's weights.
struct Pass {
    batch: usize,
    /// Height and width of a picture.
    size: [usize; 2],
    /// How many outputs of blocks are kept.
    kept: usize,
    /// Whether it has the mask of pre-training.
    is_masked: bool,
}

impl Pass {
    /// Over one picture of the size that the model was trained on.
    const fn smallest(config: &Config) -> Self {
        Self {
            batch: 1,
            size: config.img_size,
            kept: 0,
            is_masked: false,
        }
    }

    /// The bytes that it takes at once. An estimate from below: what grows with the pictures, as often as it is there
    /// at the same time.
    fn bytes<B: AimBackend>(&self, config: &Config) -> Result<u64> {
        let [height, width] = self.size;
        let [rows, columns] = config.grid(height, width)?;
        let floats = |sides: &[usize]| {
            sides
                .iter()
                .fold(4_u64, |bytes, &side| bytes.saturating_mul(side as u64))
        };
        let (batch, dim, heads) = (self.batch, config.embed_dim, config.num_heads);
        let pictures = floats(&[batch, config.num_channels, height, width]);
        let position = floats(&[rows, columns, dim]);
        // The stream before and after a block, and the sum that the probe reads.
        let streams = floats(&[batch, rows, columns, dim, self.kept.saturating_add(3)]);
        // Queries, keys, values and what attention makes of them; or the hidden layer.
        let inside = floats(&[batch, rows, columns, dim, 4]);
        let scores = if B::ATTENDS_IN_PARTS && !self.is_masked {
            0
        } else {
            floats(&[batch, heads, rows, columns, rows, columns])
        };
        Ok([pictures, position, streams, inside, scores]
            .into_iter()
            .fold(0, u64::saturating_add))
    }

    /// Whether there is memory for it: an allocation that fails ends a wasm instance, and natively the process.
    fn check<B: AimBackend>(&self, config: &Config) -> Result<()> {
        let bytes = self.bytes::<B>(config)?;
        let Self {
            batch,
            size: [height, width],
            ..
        } = self;
        let what = || {
            format!(
                "the outputs of layers for {batch} pictures of {height}x{width} pixels with patches of {}x{}",
                config.patch_size[0], config.patch_size[1]
            )
        };
        fits(
            bytes,
            limit::<B>(bytes),
            what,
            "give smaller pictures, or fewer",
        )
    }
}

/// A pass that takes less is not worth asking the system.
const LITTLE: u64 = 1 << 28;

/// The bytes that a pass may take: those of the place, else what the machine has left.
fn limit<B: AimBackend>(bytes: u64) -> Option<u64> {
    match B::PLACE.budget {
        None if bytes > LITTLE => memory::available(),
        budget => budget,
    }
}

fn fits(bytes: u64, limit: Option<u64>, what: impl Fn() -> String, advice: &str) -> Result<()> {
    match limit {
        Some(limit) if bytes > limit => Err(Error::new(
            ErrorKind::OutOfMemory,
            format!(
                "out of memory: {} need {bytes} bytes at once, and {limit} may be used: {advice}",
                what()
            ),
        )),
        _ => Ok(()),
    }
}

/// Loads the probe and the first `blocks` blocks from open files onto a device.
///
/// # Errors
/// As [`load::load`] and [`self_check`].
pub async fn load(
    files: &mut [Box<dyn Checkpoint>],
    config: Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<Box<dyn Engine>> {
    self_check(&config, blocks, precision, device).await?;
    let mut model = begin(config.clone(), blocks, precision, device)?;
    load::load(files, &config, &mut *model)?;
    model.finish()
}

/// As [`load()`], and a hash that tells the model's weights from others: see [`Fingerprint::finish`].
///
/// # Errors
/// As [`load()`].
pub async fn load_with_fingerprint(
    files: &mut [Box<dyn Checkpoint>],
    config: Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<(Box<dyn Engine>, String)> {
    self_check(&config, blocks, precision, device).await?;
    let mut model = begin(config.clone(), blocks, precision, device)?;
    let mut fingerprint = Fingerprint::new(&mut *model);
    load::load(files, &config, &mut fingerprint)?;
    let fingerprint = fingerprint.finish(&config);
    Ok((model.finish()?, fingerprint))
}

/// Fetches the probe and the first `blocks` blocks from a server onto a device.
///
/// # Errors
/// As [`RemoteModel::stream`] and [`self_check`].
pub async fn fetch<T: Transport>(
    model: RemoteModel<T>,
    blocks: usize,
    precision: Precision,
    device: &Device,
    report: &dyn Fn(Event),
) -> Result<Box<dyn Engine>> {
    self_check(&model.config, blocks, precision, device).await?;
    let mut engine = begin(model.config.clone(), blocks, precision, device)?;
    model.stream(&mut *engine, report).await?;
    engine.finish()
}

/// As [`fetch`], and a hash that tells the model's weights from others: see [`Fingerprint::finish`].
///
/// # Errors
/// As [`fetch`].
pub async fn fetch_with_fingerprint<T: Transport>(
    model: RemoteModel<T>,
    blocks: usize,
    precision: Precision,
    device: &Device,
    report: &dyn Fn(Event),
) -> Result<(Box<dyn Engine>, String)> {
    self_check(&model.config, blocks, precision, device).await?;
    let mut engine = begin(model.config.clone(), blocks, precision, device)?;
    let mut fingerprint = Fingerprint::new(&mut *engine);
    model.stream(&mut fingerprint, report).await?;
    let fingerprint = fingerprint.finish(&model.config);
    Ok((engine.finish()?, fingerprint))
}

/// A model that is being loaded. Its backend is hidden, so that its kernels are compiled once, with
/// this library.
trait Loading: Sink {
    /// The model, once its tensors came.
    fn finish(self: Box<Self>) -> Result<Box<dyn Engine>>;
}

/// A model on a device, to be filled with the probe and the first `blocks` blocks.
fn begin(
    config: Config,
    blocks: usize,
    precision: Precision,
    device: &Device,
) -> Result<Box<dyn Loading>> {
    Ok(match device {
        #[cfg(feature = "cpu")]
        Device::Cpu => {
            let device = cpu::device();
            Box::new(Assembler::<cpu::Cpu>::new(
                config, blocks, precision, device,
            )?)
        }
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => {
            let device = gpu.device.clone();
            Box::new(Assembler::<gpu::Gpu>::new(
                config, blocks, precision, device,
            )?)
        }
    })
}

impl<B: AimBackend> Loading for Assembler<B> {
    fn finish(self: Box<Self>) -> Result<Box<dyn Engine>> {
        let device = self.device().clone();
        let Loaded {
            model,
            precision,
            trunk_sha256,
        } = Self::finish(*self)?;
        Ok(Box::new(OnBackend {
            model,
            precision,
            trunk_sha256,
            device,
        }))
    }
}

struct OnBackend<B: AimBackend> {
    model: Aim<B>,
    precision: Precision,
    trunk_sha256: String,
    device: B::Device,
}

impl<B: AimBackend> OnBackend<B> {
    /// The input of a pass on its device.
    fn images(&self, images: HostTensor, kept: usize, is_masked: bool) -> Result<Tensor<B, 4>> {
        let HostTensor { shape, values } = images;
        let dims: [usize; 4] = shape.as_slice().try_into().map_err(|_| {
            Error::option(format!(
                "the input has shape {shape:?}, but must be [batch, channels, height, width]"
            ))
        })?;
        if dims
            .iter()
            .try_fold(1_usize, |n, &side| n.checked_mul(side))
            != Some(values.len())
        {
            return Err(Error::option(format!(
                "the input has shape {shape:?}, but {} values",
                values.len()
            )));
        }
        if dims.contains(&0) {
            return Err(Error::option(format!(
                "the input has shape {shape:?}: there are no pictures in it"
            )));
        }
        // Whatever it was, it is not of this pass.
        let _ = B::failure();
        let [batch, _, height, width] = dims;
        let pass = Pass {
            batch,
            size: [height, width],
            kept,
            is_masked,
        };
        pass.check::<B>(self.model.config())?;
        Ok(Tensor::from_data(
            TensorData::new(values, dims),
            &self.device,
        ))
    }
}

impl<B: AimBackend> Engine for OnBackend<B> {
    fn config(&self) -> &Config {
        self.model.config()
    }

    fn blocks(&self) -> usize {
        self.model.blocks()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn logits_and_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
    ) -> LocalBoxFuture<'a, Result<HostOutput>> {
        async move {
            let images = self.images(images, layers.len(), false)?;
            let output = self.model.logits_and_features(images, layers)?;
            B::failure()?;
            Ok(HostOutput {
                logits: read(output.logits).await?,
                features: read_all(output.features).await?,
            })
        }
        .boxed_local()
    }

    fn features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
    ) -> LocalBoxFuture<'a, Result<Vec<HostTensor>>> {
        async move {
            let images = self.images(images, layers.len(), false)?;
            let features = self.model.features(images, layers)?;
            B::failure()?;
            read_all(features).await
        }
        .boxed_local()
    }

    fn pooled<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
        pool: Pool,
    ) -> LocalBoxFuture<'a, Result<HostTensor>> {
        async move {
            let images = self.images(images, 1, false)?;
            let tokens = self.model.mean_of_layers(images, layers)?;
            match pool {
                Pool::None => {
                    B::failure()?;
                    read(tokens).await
                }
                Pool::Mean => {
                    let mean: Tensor<B, 2> = tokens.mean_dim(1).squeeze_dim(1);
                    B::failure()?;
                    read(mean).await
                }
                Pool::Probe => {
                    let pooled = self.model.pooled_by_probe(tokens);
                    B::failure()?;
                    read(pooled).await
                }
            }
        }
        .boxed_local()
    }

    fn trunk_sha256(&self) -> &str {
        &self.trunk_sha256
    }

    fn with_head(&self, head: &Head) -> Result<Box<dyn Engine>> {
        let config = self.model.config();
        if (head.dim(), head.num_heads) != (config.embed_dim, config.num_heads) {
            return Err(Error::option(format!(
                "the head has {} channels and {} heads of attention, but the model has {} and {}",
                head.dim(),
                head.num_heads,
                config.embed_dim,
                config.num_heads
            )));
        }
        let params = head_params(head, &self.device)?;
        Ok(Box::new(Self {
            model: self.model.with_head(head.num_classes(), params)?,
            precision: self.precision,
            trunk_sha256: self.trunk_sha256.clone(),
            device: self.device.clone(),
        }))
    }

    fn causal_features<'a>(
        &'a self,
        images: HostTensor,
        layers: &'a [usize],
        prefix: usize,
    ) -> LocalBoxFuture<'a, Result<Vec<HostTensor>>> {
        async move {
            let images = self.images(images, layers.len(), true)?;
            let features = self.model.causal_features(images, layers, prefix)?;
            B::failure()?;
            read_all(features).await
        }
        .boxed_local()
    }
}

async fn read_all<B: Backend, const D: usize>(
    tensors: Vec<Tensor<B, D>>,
) -> Result<Vec<HostTensor>> {
    let mut read_tensors = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        read_tensors.push(read(tensor).await?);
    }
    Ok(read_tensors)
}

/// A head on a device, in floats.
fn head_params<B: AimBackend>(head: &Head, device: &B::Device) -> Result<Params<B>> {
    let (dim, classes) = (head.dim(), head.num_classes());
    let mut params = Params::default();
    let vectors: [(&str, &[f32], &[usize]); 3] = [
        ("head.bn.running_mean", &head.running_mean, &[dim]),
        ("head.bn.running_var", &head.running_var, &[dim]),
        ("head.cls_token", &head.cls_token, &[1, 1, dim]),
    ];
    for (name, values, shape) in vectors {
        let data = TensorData::new(values.to_vec(), [values.len()]);
        params.insert(name, Tensor::from_data(data, device), shape);
    }
    let matrices = [
        ("head.k.weight", &head.k, dim),
        ("head.v.weight", &head.v, dim),
        ("head.linear.weight", &head.linear, classes),
    ];
    for (name, values, d_output) in matrices {
        let mut rows = B::Rows::new(d_output, dim, device)?;
        rows.push(values)?;
        let linear = Linear::new(rows.finish()?, [d_output, dim]);
        params.insert_linear(name, linear);
    }
    Ok(params)
}
